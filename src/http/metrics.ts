import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Metric } from 'prom-client';
import type { ClusterNode } from '../cluster/node.js';
import { SOURCES } from '../core/decision.js';
import { DURATION_BOUNDS } from './counters.js';
import type { Counters } from './counters.js';
import { addEtcdMetrics } from './etcd-metrics.js';
import { addStoreMetrics } from './store-metrics.js';
import type { Sample } from './store-metrics.js';

/** What the metrics read when Prometheus asks; nothing is kept twice. */
export interface MetricSources {
  readonly counters: Counters;
  readonly cluster: Pick<
    ClusterNode,
    | 'table'
    | 'callers'
    | 'book'
    | 'reservations'
    | 'loads'
    | 'membership'
    | 'replicator'
    | 'forwarder'
    | 'lessor'
    | 'lessee'
    | 'denials'
    | 'handedClients'
    | 'writeBehind'
    | 'registered'
  >;
  /** What `peer/counters.ts` counts. */
  readonly peers: Readonly<Record<'sent' | 'received' | 'refused', Readonly<Record<string, number>>>>;
}

/** The node's own registry: event-loop lag, memory and garbage collection come with prom-client's default metrics. */
export function createMetrics(sources: MetricSources): Registry {
  const { counters, cluster, peers } = sources;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];

  function counter(name: string, help: string, labelNames: readonly string[], read: () => Iterable<Sample>): void {
    new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.inc(labels, value);
      },
    });
  }

  /** @param together how the workers of a group make one figure of theirs */
  function gauge(
    name: string,
    help: string,
    labelNames: readonly string[],
    read: () => Iterable<Sample>,
    together: 'sum' | 'max' | 'min' = 'sum',
  ): void {
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      aggregator: together,
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.set(labels, value);
      },
    });
  }

  const one = (read: () => number) => (): Iterable<Sample> => [[{}, read()]];
  const labelled = (label: string, read: () => Iterable<readonly [string, number]>) => (): Iterable<Sample> =>
    [...read()].map(([value, count]) => [{ [label]: value }, count] as const);

  const decisions = 'Decisions by outcome and by who decided; peeks included';
  counter('tokenring_decisions_total', decisions, ['outcome', 'source'], () =>
    SOURCES.flatMap((source): Sample[] => [
      [{ outcome: 'allowed', source }, counters.allowed[source]],
      [{ outcome: 'denied', source }, counters.denied[source]],
    ]),
  );
  const problems = 'Requests and batch items answered with a problem, by its code';
  counter(
    'tokenring_problems_total',
    problems,
    ['code'],
    labelled('code', () => counters.problems),
  );
  const shadow = 'Denials that were none, as their policy is on trial';
  counter(
    'tokenring_shadow_denials_total',
    shadow,
    ['policy'],
    labelled('policy', () => cluster.callers.shadowDenials),
  );
  const factors = 'Part of the limits of adaptive policies that is in force, where it is not all';
  gauge(
    'tokenring_load_factor',
    factors,
    ['policy'],
    labelled('policy', () => cluster.loads.factors()),
    'min',
  );
  const reservations = 'Costs reserved within the last ten minutes, settled or not, of clients owned and copied';
  gauge(
    'tokenring_reservations',
    reservations,
    [],
    one(() => cluster.reservations.size),
  );
  const version = 'Version of the policies that are in force here: the same on all nodes';
  gauge(
    'tokenring_policies_version',
    version,
    [],
    one(() => cluster.book.document.version),
    'min',
  );
  const evictions =
    'Clients dropped at the bound of the bucket table, and buckets of one above 64, though their limit still counted';
  counter(
    'tokenring_unexpired_evictions_total',
    evictions,
    [],
    one(() => cluster.table.unexpiredEvictions),
  );
  const clients = 'Clients in the bucket table, owned and copied';
  gauge(
    'tokenring_clients',
    clients,
    [],
    one(() => cluster.table.size),
  );
  const inFlight = 'Requests on the decision endpoints that are not answered yet';
  gauge(
    'tokenring_requests_in_flight',
    inFlight,
    [],
    one(() => counters.inFlight),
  );

  const cut = 'Connections closed unheard as they were too many, and cut off as their client did not read';
  counter('tokenring_cut_connections_total', cut, ['reason'], () => [
    [{ reason: 'too_many' }, counters.refusedConnections],
    [{ reason: 'too_many_of_address' }, counters.refusedOfAddress],
    [{ reason: 'slow_reader' }, counters.slowReaders],
  ]);

  const membersByState = (): Map<string, number> => {
    const byState = new Map<string, number>();
    for (const { id } of cluster.membership.records()) {
      const state = cluster.membership.stateOf(id)!;
      byState.set(state, (byState.get(state) ?? 0) + 1);
    }
    return byState;
  };
  const members = 'Members as this node sees them, by state';
  gauge('tokenring_members', members, ['state'], labelled('state', membersByState), 'max');
  const lag = 'Age of the oldest copy on its way to a living successor; it left up to an interval after the change';
  gauge(
    'tokenring_replication_lag_seconds',
    lag,
    [],
    one(() => cluster.replicator.lagMs / 1_000),
    'max',
  );
  const unplaced = 'Clients still to be looked at since the ring last changed';
  gauge(
    'tokenring_unplaced_clients',
    unplaced,
    [],
    one(() => cluster.replicator.unplaced),
  );
  const handed = 'Clients handed to joining members';
  counter(
    'tokenring_handed_clients_total',
    handed,
    [],
    one(() => cluster.handedClients),
  );
  const waiting = 'Checks that wait for another node';
  gauge(
    'tokenring_forwards_waiting',
    waiting,
    [],
    one(() => cluster.forwarder.waiting),
  );
  const leased = 'Clients of other owners that this node has leased tokens of';
  gauge(
    'tokenring_leased_clients',
    leased,
    [],
    one(() => cluster.lessee.leasedClients),
  );
  const lent = 'Tokens lent to other nodes';
  counter(
    'tokenring_lent_tokens_total',
    lent,
    [],
    one(() => cluster.lessor.lentTokens),
  );
  const returned = 'Lent tokens that came back unspent';
  counter(
    'tokenring_returned_tokens_total',
    returned,
    [],
    one(() => cluster.lessor.returnedTokens),
  );
  const denials = 'Clients of other owners whose denial is remembered';
  gauge(
    'tokenring_remembered_denials',
    denials,
    [],
    one(() => cluster.denials.size),
  );
  const sent = 'Messages sent to peers, by kind';
  counter(
    'tokenring_peer_messages_total',
    sent,
    ['kind'],
    labelled('kind', () => Object.entries(peers.sent)),
  );
  const received = 'Messages received from peers, by kind';
  counter(
    'tokenring_peer_received_total',
    received,
    ['kind'],
    labelled('kind', () => Object.entries(peers.received)),
  );
  const refused = 'Messages from peers that were refused, by reason';
  counter(
    'tokenring_peer_refused_total',
    refused,
    ['reason'],
    labelled('reason', () => Object.entries(peers.refused)),
  );

  if (cluster.writeBehind !== undefined) addStoreMetrics({ counter, gauge }, cluster.writeBehind);
  if (cluster.registered !== undefined) addEtcdMetrics({ counter, gauge }, cluster.registered);

  registry.registerMetric(decisionSeconds(counters));
  return registry;
}

/** prom-client's own histogram can only be fed one observation at a time; this one is read from plain counters. */
function decisionSeconds(counters: Counters): Metric {
  const name = 'tokenring_decision_seconds';
  const get = (): unknown => {
    let cumulative = 0;
    const values = counters.durations.map((count, i) => {
      cumulative += count;
      return { metricName: `${name}_bucket`, labels: { le: DURATION_BOUNDS[i] ?? '+Inf' }, value: cumulative };
    });
    const sum = { metricName: `${name}_sum`, labels: {}, value: counters.durationSumSeconds };
    const count = { metricName: `${name}_count`, labels: {}, value: cumulative };
    const help = 'From the arrival of a request on a decision endpoint to its answer';
    return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values: [...values, sum, count] });
  };
  return { name, get, reset: () => undefined } as unknown as Metric;
}

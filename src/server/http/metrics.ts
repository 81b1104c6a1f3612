import { collectDefaultMetrics, Counter, Gauge, Registry, type Metric } from 'prom-client';
import type { ClusterNode } from '../../node/node.js';
import type { NodeStats, RegistryStats } from '../../node/node-stats.js';
import type { StoreStats } from '../../node/durability/write-behind.js';
import { DURATION_BOUNDS, SOURCES } from '../../limits/decide/decision.js';
import { DURATION_SOURCES, type Counters } from '../edge/counters.js';

/** The sources that the metrics read when Prometheus scrapes. The metrics store no copy. */
interface MetricSources {
  readonly counters: Counters;
  readonly cluster: Pick<ClusterNode, 'stats'>;
  /** Lines that standard output and the audit log's file did not take. */
  readonly lost: { logLines(): number; auditLines(): number };
  /** The counts of `protocol/link/counters.ts`. */
  readonly peers: Readonly<Record<'sent' | 'received' | 'refused', Readonly<Record<string, number>>>>;
  /** Settings that alerts compare other metrics with. */
  readonly settings: { readonly memoryMb: number; readonly suspectAfterMs: number };
}

/** A registry of metrics whose values are read when Prometheus scrapes. */
export class LiveRegistry extends Registry {
  /** Adds a metric that only grows. */
  readonly counter = this.adding(Counter);
  /** Adds a metric that may fall. */
  readonly gauge = this.adding(Gauge);

  private adding(Kind: typeof Counter | typeof Gauge): Add {
    return (name, help, read, { labels = [], together = 'sum' } = {}) => {
      const metric = new Kind({
        name,
        help,
        labelNames: [...labels],
        registers: [this],
        aggregator: together,
        collect() {
          metric.reset();
          const values = read();
          const each = typeof values === 'number' ? [[[], values] as const] : values;
          for (const [of, amount] of each) metric.labels(...(typeof of === 'string' ? [of] : of)).inc(amount);
        },
      });
    };
  }
}

/**
 * Adds a metric.
 * @param read returns one value, or one for each combination of the values of the labels
 */
type Add = (
  name: string,
  help: string,
  read: () => number | Iterable<readonly [labels: string | readonly string[], amount: number]>,
  options?: {
    readonly labels?: readonly string[];
    /** How the values of several workers are combined. Default: their sum. */
    readonly together?: 'sum' | 'max' | 'min';
  },
) => void;

/** The metrics of this node, with event-loop lag, memory, and garbage collection from prom-client. */
export class NodeMetrics extends LiveRegistry {
  constructor(sources: MetricSources) {
    super();
    collectDefaultMetrics({ register: this });
    const { counters, cluster, peers, lost, settings } = sources;
    const { counter, gauge } = this;
    const stats = (): NodeStats => cluster.stats();

    counter(
      'tokenring_decisions_total',
      'Decisions by outcome and by who decided; peeks included',
      () =>
        SOURCES.flatMap((source) => [
          [['allowed', source], counters.allowed[source]] as const,
          [['denied', source], counters.denied[source]] as const,
        ]),
      { labels: ['outcome', 'source'] },
    );
    const reported = 'Denials that clients with the SDK remembered and report; part of tokenring_decisions_total';
    counter('tokenring_reported_denials_total', reported, () => counters.reportedDenials);
    const degraded = 'Decisions without the state of the owner: by an acting owner, or by the fallback';
    counter('tokenring_degraded_decisions_total', degraded, () => counters.degraded);
    const problems = 'Requests and batch items answered with a problem, by its code';
    counter('tokenring_problems_total', problems, () => counters.problems, { labels: ['code'] });
    const shadow = 'Requests that a shadow policy would have denied';
    counter('tokenring_shadow_denials_total', shadow, () => stats().shadowDenials, { labels: ['policy'] });
    const factors = 'Factor on the limits of adaptive policies, where it is below 1';
    gauge('tokenring_load_factor', factors, () => stats().loadFactors, { labels: ['policy'], together: 'min' });
    const reserved = 'Reservations of the last ten minutes, settled or not, of clients owned and copied';
    gauge('tokenring_reservations', reserved, () => stats().reservations);
    const version = 'Version of the policies in force here; the same on all nodes';
    gauge('tokenring_policies_version', version, () => stats().policiesVersion, { together: 'min' });
    const evictions =
      'Clients dropped at the bound of the bucket table, and buckets above 64 of one client, before they were idle';
    counter('tokenring_unexpired_evictions_total', evictions, () => stats().unexpiredEvictions);
    gauge('tokenring_clients', 'Clients in the bucket table, owned and copied', () => stats().clients);
    const inFlight = 'Requests on the decision endpoints without an answer yet';
    gauge('tokenring_requests_in_flight', inFlight, () => counters.inFlight);
    const connections = 'Open connections of callers, by protocol';
    gauge('tokenring_connections', connections, () => counters.connections, { labels: ['protocol'] });
    const cut = 'Connections refused or ended because there were too many, or because their client did not read';
    counter(
      'tokenring_cut_connections_total',
      cut,
      () => [
        ['too_many', counters.refusedConnections],
        ['too_many_of_address', counters.refusedOfAddress],
        ['displaced', counters.displacedConnections],
        ['slow_reader', counters.slowReaders],
      ],
      { labels: ['reason'] },
    );

    gauge('tokenring_members', 'Members as this node sees them, by state', () => stats().members, {
      labels: ['state'],
      together: 'max',
    });
    const lag = 'Age of the oldest copy on its way to a living successor, counted from when it was sent';
    gauge('tokenring_replication_lag_seconds', lag, () => stats().replicationLagMs / 1_000, { together: 'max' });
    const unplaced = 'Clients not yet placed on the ring since it last changed';
    gauge('tokenring_unplaced_clients', unplaced, () => stats().unplacedClients);
    counter('tokenring_handed_clients_total', 'Clients handed to joining members', () => stats().handedClients);
    gauge('tokenring_forwards_waiting', 'Checks that wait for another node', () => stats().forwardsWaiting);
    const leased = 'Clients of other owners for which this node holds leased tokens';
    gauge('tokenring_leased_clients', leased, () => stats().leasedClients);
    counter('tokenring_lent_tokens_total', 'Tokens leased to other nodes', () => stats().lentTokens);
    const returned = 'Leased tokens that came back unspent';
    counter('tokenring_returned_tokens_total', returned, () => stats().returnedTokens);
    const denied = 'Clients of other owners whose denial is remembered';
    gauge('tokenring_remembered_denials', denied, () => stats().rememberedDenials);
    addPeerMetrics(this, peers);

    const budget = 'Memory from which the bounds of this node follow';
    gauge('tokenring_memory_budget_bytes', budget, () => settings.memoryMb * 1024 * 1024);
    const suspicion = 'Time after which a silent member leaves the ring';
    gauge('tokenring_suspect_after_seconds', suspicion, () => settings.suspectAfterMs / 1_000, { together: 'max' });

    const logLines = 'Log lines lost because the disk is full, or the reader is gone or too slow';
    counter('tokenring_log_lines_dropped_total', logLines, () => lost.logLines());
    const auditLines = 'Audit lines written to the log because the audit log was not writable';
    counter('tokenring_audit_lines_diverted_total', auditLines, () => lost.auditLines());

    if (stats().store !== undefined) addStoreMetrics(this, () => stats().store!);
    if (stats().registry !== undefined) addEtcdMetrics(this, () => stats().registry!);
    this.registerMetric(decisionSeconds(counters));
  }
}

function addPeerMetrics({ counter }: LiveRegistry, peers: MetricSources['peers']): void {
  const sent = 'Messages sent to peers, by kind';
  counter('tokenring_peer_messages_total', sent, () => Object.entries(peers.sent), { labels: ['kind'] });
  const received = 'Messages received from peers, by kind';
  counter('tokenring_peer_received_total', received, () => Object.entries(peers.received), { labels: ['kind'] });
  const refused = 'Messages from peers that were refused, by reason';
  counter('tokenring_peer_refused_total', refused, () => Object.entries(peers.refused), { labels: ['reason'] });
}

/** Reads the histograms from plain counters. prom-client's own histogram only accepts one observation at a time. */
function decisionSeconds(counters: Counters): Metric {
  const name = 'tokenring_decision_seconds';
  const get = (): unknown => {
    const values = DURATION_SOURCES.flatMap((source) => {
      const { counts, sumSeconds } = counters.durations[source];
      let cumulative = 0;
      const buckets = counts.map((count, i) => {
        cumulative += count;
        const labels = { le: DURATION_BOUNDS[i] ?? '+Inf', source };
        return { metricName: `${name}_bucket`, labels, value: cumulative };
      });
      const sum = { metricName: `${name}_sum`, labels: { source }, value: sumSeconds };
      return [...buckets, sum, { metricName: `${name}_count`, labels: { source }, value: cumulative }];
    });
    const help = 'From the arrival of a request on a decision endpoint to its answer, by the source of the decision';
    return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values });
  };
  return { name, get, reset: () => undefined } as unknown as Metric;
}

/** Adds the metrics of a durable store. */
function addStoreMetrics(registry: LiveRegistry, stats: () => StoreStats): void {
  const { counter, gauge } = registry;
  const up = '1 while the store works; 0 while decisions go on without it';
  gauge('tokenring_store_up', up, () => Number(stats().up), { together: 'min' });
  const waiting = 'Clients with changes that are not in the store yet';
  gauge('tokenring_store_waiting_clients', waiting, () => stats().waiting);
  const lag = 'Age of the oldest change that is not in the store; a crash of all nodes now would lose that much';
  gauge('tokenring_store_lag_seconds', lag, () => stats().lagMs / 1_000, { together: 'max' });
  const failures = 'Reads and writes that the store failed or did not answer in time';
  counter('tokenring_store_failures_total', failures, () => stats().failures);
  const written = 'Writes of clients to the store';
  counter('tokenring_store_written_clients_total', written, () => stats().writtenClients);
  const loaded = 'Clients read from the store at the start';
  counter('tokenring_store_loaded_clients_total', loaded, () => stats().loadedClients);
  const rewrites = 'Full rewrites, after the store lost its contents or missed too many changes';
  counter('tokenring_store_rewrites_total', rewrites, () => stats().rewrites);
  const unreadable = 'Records of the store that could not be read and were skipped';
  counter('tokenring_store_unreadable_total', unreadable, () => stats().unreadable);
  const { lock } = stats();
  if (lock !== undefined) addLockMetrics(registry, lock);
}

function addLockMetrics({ counter, gauge }: LiveRegistry, lock: NonNullable<StoreStats['lock']>): void {
  const events = 'Events of the locks on shards of the store: acquired, renewed, contended (held by another), lost';
  counter(
    'tokenring_store_lock_total',
    events,
    () => (['acquired', 'renewed', 'contended', 'lost'] as const).map((event) => [event, lock[event]] as const),
    { labels: ['event'] },
  );
  gauge('tokenring_store_locks_held', 'Shards of the store whose lock this node holds', () => lock.held);
  const seconds = 'Total time for which locks were held';
  counter('tokenring_store_lock_held_seconds_total', seconds, () => lock.heldMs / 1_000);
}

/** Adds the metrics of a node whose members and policies are in etcd. */
export function addEtcdMetrics({ counter, gauge }: LiveRegistry, stats: () => RegistryStats): void {
  gauge('tokenring_etcd_revision', 'Revision of etcd that the ring is made from', () => stats().revision);
  const lease = 'Time left on the lease of this node in etcd; 0 after it expired';
  gauge('tokenring_etcd_lease_seconds', lease, () => stats().leaseLeftMs / 1_000);
  const valid = '1 if the policies in etcd are valid; 0 while the ones read before stay in force';
  const isValid = (): number => Number(stats().arePoliciesValid);
  gauge('tokenring_etcd_policies_valid', valid, isValid, { together: 'min' });
  const failed = 'Requests that etcd failed or did not answer in time, by kind; watch: watches that ended';
  counter('tokenring_etcd_failures_total', failed, () => Object.entries(stats().failures), { labels: ['what'] });
}

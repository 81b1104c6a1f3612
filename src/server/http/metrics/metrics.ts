import { collectDefaultMetrics, Registry, type Metric } from 'prom-client';
import type { ClusterNode } from '../../../node/node.js';
import type { NodeStats, RegistryStats } from '../../../node/node-stats.js';
import { DURATION_BOUNDS, SOURCES } from '../../../limits/decide/decision.js';
import { DURATION_SOURCES, type Counters } from '../../edge/counters.js';
import type { StoreStats } from '../../../node/durability/write-behind.js';
import { metricKindsOf, type MetricKinds } from './metric-kinds.js';

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

/** Creates the metrics of this node, with event-loop lag, memory, and garbage collection from prom-client. */
export function createMetrics(sources: MetricSources): Registry {
  const { counters, cluster, peers, lost, settings } = sources;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const { counter, gauge } = metricKindsOf(registry);
  const stats = (): NodeStats => cluster.stats();

  counter.each(
    ['outcome', 'source'],
    'tokenring_decisions_total',
    'Decisions by outcome and by who decided; peeks included',
    () =>
      SOURCES.flatMap((source) => [
        [{ outcome: 'allowed', source }, counters.allowed[source]] as const,
        [{ outcome: 'denied', source }, counters.denied[source]] as const,
      ]),
  );
  const reported = 'Denials that clients with the SDK remembered and report; part of tokenring_decisions_total';
  counter.one('tokenring_reported_denials_total', reported, () => counters.reportedDenials);
  const degraded = 'Decisions without the state of the owner: by an acting owner, or by the fallback';
  counter.one('tokenring_degraded_decisions_total', degraded, () => counters.degraded);
  const problems = 'Requests and batch items answered with a problem, by its code';
  counter.by('code', 'tokenring_problems_total', problems, () => counters.problems);
  const shadow = 'Requests that a shadow policy would have denied';
  counter.by('policy', 'tokenring_shadow_denials_total', shadow, () => stats().shadowDenials);
  const factors = 'Factor on the limits of adaptive policies, where it is below 1';
  gauge.by('policy', 'tokenring_load_factor', factors, () => stats().loadFactors, 'min');
  const reserved = 'Reservations of the last ten minutes, settled or not, of clients owned and copied';
  gauge.one('tokenring_reservations', reserved, () => stats().reservations);
  const version = 'Version of the policies in force here; the same on all nodes';
  gauge.one('tokenring_policies_version', version, () => stats().policiesVersion, 'min');
  const evictions =
    'Clients dropped at the bound of the bucket table, and buckets above 64 of one client, before they were idle';
  counter.one('tokenring_unexpired_evictions_total', evictions, () => stats().unexpiredEvictions);
  gauge.one('tokenring_clients', 'Clients in the bucket table, owned and copied', () => stats().clients);
  const inFlight = 'Requests on the decision endpoints without an answer yet';
  gauge.one('tokenring_requests_in_flight', inFlight, () => counters.inFlight);
  const connections = 'Open connections of callers, by protocol';
  gauge.by('protocol', 'tokenring_connections', connections, () => counters.connections);
  const cut = 'Connections refused or ended because there were too many, or because their client did not read';
  counter.by('reason', 'tokenring_cut_connections_total', cut, () => [
    ['too_many', counters.refusedConnections],
    ['too_many_of_address', counters.refusedOfAddress],
    ['displaced', counters.displacedConnections],
    ['slow_reader', counters.slowReaders],
  ]);

  gauge.by('state', 'tokenring_members', 'Members as this node sees them, by state', () => stats().members, 'max');
  const lag = 'Age of the oldest copy on its way to a living successor, counted from when it was sent';
  gauge.one('tokenring_replication_lag_seconds', lag, () => stats().replicationLagMs / 1_000, 'max');
  const unplaced = 'Clients not yet placed on the ring since it last changed';
  gauge.one('tokenring_unplaced_clients', unplaced, () => stats().unplacedClients);
  counter.one('tokenring_handed_clients_total', 'Clients handed to joining members', () => stats().handedClients);
  gauge.one('tokenring_forwards_waiting', 'Checks that wait for another node', () => stats().forwardsWaiting);
  const leased = 'Clients of other owners for which this node holds leased tokens';
  gauge.one('tokenring_leased_clients', leased, () => stats().leasedClients);
  counter.one('tokenring_lent_tokens_total', 'Tokens leased to other nodes', () => stats().lentTokens);
  const returned = 'Leased tokens that came back unspent';
  counter.one('tokenring_returned_tokens_total', returned, () => stats().returnedTokens);
  const denied = 'Clients of other owners whose denial is remembered';
  gauge.one('tokenring_remembered_denials', denied, () => stats().rememberedDenials);
  const sent = 'Messages sent to peers, by kind';
  counter.by('kind', 'tokenring_peer_messages_total', sent, () => Object.entries(peers.sent));
  const received = 'Messages received from peers, by kind';
  counter.by('kind', 'tokenring_peer_received_total', received, () => Object.entries(peers.received));
  const refused = 'Messages from peers that were refused, by reason';
  counter.by('reason', 'tokenring_peer_refused_total', refused, () => Object.entries(peers.refused));

  const budget = 'Memory from which the bounds of this node follow';
  gauge.one('tokenring_memory_budget_bytes', budget, () => settings.memoryMb * 1024 * 1024);
  const suspicion = 'Time after which a silent member leaves the ring';
  gauge.one('tokenring_suspect_after_seconds', suspicion, () => settings.suspectAfterMs / 1_000, 'max');

  const logLines = 'Log lines lost because the disk is full, or the reader is gone or too slow';
  counter.one('tokenring_log_lines_dropped_total', logLines, () => lost.logLines());
  const auditLines = 'Audit lines written to the log because the audit log was not writable';
  counter.one('tokenring_audit_lines_diverted_total', auditLines, () => lost.auditLines());

  if (stats().store !== undefined) addStoreMetrics({ counter, gauge }, () => stats().store!);
  if (stats().registry !== undefined) addEtcdMetrics({ counter, gauge }, () => stats().registry!);

  registry.registerMetric(decisionSeconds(counters));
  return registry;
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
function addStoreMetrics({ counter, gauge }: MetricKinds, stats: () => StoreStats): void {
  const up = '1 while the store works; 0 while decisions go on without it';
  gauge.one('tokenring_store_up', up, () => Number(stats().up), 'min');
  const waiting = 'Clients with changes that are not in the store yet';
  gauge.one('tokenring_store_waiting_clients', waiting, () => stats().waiting);
  const lag = 'Age of the oldest change that is not in the store; a crash of all nodes now would lose that much';
  gauge.one('tokenring_store_lag_seconds', lag, () => stats().lagMs / 1_000, 'max');
  const failures = 'Reads and writes that the store failed or did not answer in time';
  counter.one('tokenring_store_failures_total', failures, () => stats().failures);
  const written = 'Writes of clients to the store';
  counter.one('tokenring_store_written_clients_total', written, () => stats().writtenClients);
  const loaded = 'Clients read from the store at the start';
  counter.one('tokenring_store_loaded_clients_total', loaded, () => stats().loadedClients);
  const rewrites = 'Full rewrites, after the store lost its contents or missed too many changes';
  counter.one('tokenring_store_rewrites_total', rewrites, () => stats().rewrites);
  const unreadable = 'Records of the store that could not be read and were skipped';
  counter.one('tokenring_store_unreadable_total', unreadable, () => stats().unreadable);
  const { lock } = stats();
  if (lock !== undefined) addLockMetrics({ counter, gauge }, lock);
}

function addLockMetrics({ counter, gauge }: MetricKinds, lock: NonNullable<StoreStats['lock']>): void {
  const events = 'Events of the locks on shards of the store: acquired, renewed, contended (held by another), lost';
  counter.by('event', 'tokenring_store_lock_total', events, () =>
    (['acquired', 'renewed', 'contended', 'lost'] as const).map((event) => [event, lock[event]] as const),
  );
  gauge.one('tokenring_store_locks_held', 'Shards of the store whose lock this node holds', () => lock.held);
  const seconds = 'Total time for which locks were held';
  counter.one('tokenring_store_lock_held_seconds_total', seconds, () => lock.heldMs / 1_000);
}

/** Adds the metrics of a node whose members and policies are in etcd. */
export function addEtcdMetrics({ counter, gauge }: MetricKinds, stats: () => RegistryStats): void {
  gauge.one('tokenring_etcd_revision', 'Revision of etcd that the ring is made from', () => stats().revision);
  const lease = 'Time left on the lease of this node in etcd; 0 after it expired';
  gauge.one('tokenring_etcd_lease_seconds', lease, () => stats().leaseLeftMs / 1_000);
  const valid = '1 if the policies in etcd are valid; 0 while the ones read before stay in force';
  const isValid = (): number => Number(stats().arePoliciesValid);
  gauge.one('tokenring_etcd_policies_valid', valid, isValid, 'min');
  const failed = 'Requests that etcd failed or did not answer in time, by kind; watch: watches that ended';
  counter.by('what', 'tokenring_etcd_failures_total', failed, () => Object.entries(stats().failures));
}

import type { StoreStats } from '../../../node/durability/write-behind.js';
import type { MetricKinds } from './metric-kinds.js';

/** Adds the metrics of a durable store. */
export function addStoreMetrics({ counter, gauge }: MetricKinds, stats: () => StoreStats): void {
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

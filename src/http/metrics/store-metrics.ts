import type { LockCounters } from '../../cluster/ports.js';
import type { StoreStats } from '../../cluster/node-stats.js';
import type { MetricKinds } from './metric-kinds.js';

/** What there is to watch of a durable store; nothing of it is there without one. */
export function addStoreMetrics({ counter, gauge }: MetricKinds, stats: () => StoreStats): void {
  const up = 'Whether the store did what was last asked of it: 0 while decisions go on without';
  gauge.one('tokenring_store_up', up, () => Number(stats().up), 'min');
  const waiting = 'Clients whose buckets changed and are not in the store yet';
  gauge.one('tokenring_store_waiting_clients', waiting, () => stats().waiting);
  const lag = 'Age of the oldest change that is not in the store: what a crash of all nodes would forget now';
  gauge.one('tokenring_store_lag_seconds', lag, () => stats().lagMs / 1_000, 'max');
  const failures = 'Reads and writes that the store failed or did not answer in time';
  counter.one('tokenring_store_failures_total', failures, () => stats().failures);
  const written = 'Clients written to the store, each as often as it was';
  counter.one('tokenring_store_written_clients_total', written, () => stats().writtenClients);
  const loaded = 'Clients read from the store at the start';
  counter.one('tokenring_store_loaded_clients_total', loaded, () => stats().loadedClients);
  const rewrites = 'Times that all was written again, as the store had lost it or too much had changed without it';
  counter.one('tokenring_store_rewrites_total', rewrites, () => stats().rewrites);
  const unreadable = 'Records of the store that could not be read, and count as absent';
  counter.one('tokenring_store_unreadable_total', unreadable, () => stats().unreadable);
  const { lock } = stats();
  if (lock !== undefined) addLockMetrics({ counter, gauge }, lock);
}

function addLockMetrics({ counter, gauge }: MetricKinds, lock: LockCounters): void {
  const events =
    'What became of the lock on a shard of the store: acquired, renewed, contended (held by another), lost';
  counter.by('event', 'tokenring_store_lock_total', events, () =>
    (['acquired', 'renewed', 'contended', 'lost'] as const).map((event) => [event, lock[event]] as const),
  );
  gauge.one('tokenring_store_locks_held', 'Shards of the store that this node holds the lock of', () => lock.held);
  const seconds = 'Time for which locks were held, in all';
  counter.one('tokenring_store_lock_held_seconds_total', seconds, () => lock.heldMs / 1_000);
}

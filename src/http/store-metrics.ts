import type { WriteBehind } from '../cluster/write-behind.js';
import type { LockCounters } from '../cluster/ports.js';

export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export type Add = (
  name: string,
  help: string,
  labelNames: readonly string[],
  read: () => Iterable<Sample>,
  together?: 'sum' | 'max' | 'min',
) => void;

/** What there is to watch of a durable store; nothing of it is there without one. */
export function addStoreMetrics(
  { counter, gauge }: { readonly counter: Add; readonly gauge: Add },
  store: WriteBehind,
): void {
  const one = (read: () => number) => (): Iterable<Sample> => [[{}, read()]];
  const up = 'Whether the store did what was last asked of it: 0 while decisions go on without';
  gauge(
    'tokenring_store_up',
    up,
    [],
    one(() => Number(store.up)),
    'min',
  );
  const waiting = 'Clients whose buckets changed and are not in the store yet';
  gauge(
    'tokenring_store_waiting_clients',
    waiting,
    [],
    one(() => store.waiting),
  );
  const lag = 'Age of the oldest change that is not in the store: what a crash of all nodes would forget now';
  gauge(
    'tokenring_store_lag_seconds',
    lag,
    [],
    one(() => store.lagMs / 1_000),
    'max',
  );
  const failures = 'Reads and writes that the store failed or did not answer in time';
  counter(
    'tokenring_store_failures_total',
    failures,
    [],
    one(() => store.failures),
  );
  const written = 'Clients written to the store, each as often as it was';
  counter(
    'tokenring_store_written_clients_total',
    written,
    [],
    one(() => store.writtenClients),
  );
  const loaded = 'Clients read from the store at the start';
  counter(
    'tokenring_store_loaded_clients_total',
    loaded,
    [],
    one(() => store.loadedClients),
  );
  const rewrites = 'Times that all was written again, as the store had lost it or too much had changed without it';
  counter(
    'tokenring_store_rewrites_total',
    rewrites,
    [],
    one(() => store.rewrites),
  );
  const unreadable = 'Records of the store that could not be read, and count as absent';
  counter(
    'tokenring_store_unreadable_total',
    unreadable,
    [],
    one(() => store.unreadable),
  );
  if (store.lock !== undefined) addLockMetrics({ counter, gauge }, store.lock);
}

function addLockMetrics({ counter, gauge }: { readonly counter: Add; readonly gauge: Add }, lock: LockCounters): void {
  const events =
    'What became of the lock on a shard of the store: acquired, renewed, contended (held by another), lost';
  counter('tokenring_store_lock_total', events, ['event'], () =>
    (['acquired', 'renewed', 'contended', 'lost'] as const).map((event): Sample => [{ event }, lock[event]]),
  );
  gauge('tokenring_store_locks_held', 'Shards of the store that this node holds the lock of', [], () => [
    [{}, lock.held],
  ]);
  const seconds = 'Time for which locks were held, in all';
  counter('tokenring_store_lock_held_seconds_total', seconds, [], () => [[{}, lock.heldMs / 1_000]]);
}

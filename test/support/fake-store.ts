import type { Store } from '../../src/store/store.js';
import { agedBy, joinAged, type Snapshot } from '../../src/limits/bucket/snapshot.js';

/** A store in memory that survives its nodes. */
export interface FakeStore extends Store {
  /** Number of stored clients. */
  readonly size: number;
  /** Whether all operations fail. */
  down: boolean;
}

/** @param wallMs the clock of its machine */
export function createFakeStore(wallMs: () => number, { shared }: { shared: boolean }): FakeStore {
  const records = new Map<string, { buckets: readonly Snapshot[]; atMs: number }>();
  let members: readonly string[] = [];
  const done = { kind: 'done', left: [], lost: false } as const;
  const failed = { kind: 'failed', reason: 'down' } as const;
  const store: FakeStore = {
    shared,
    down: false,
    unreadable: () => 0,
    members() {
      return members;
    },
    get size() {
      return records.size;
    },
    load(keep) {
      if (store.down) return Promise.resolve(failed);
      const nowMs = wallMs();
      keep([...records].map(([id, { buckets, atMs }]) => [id, agedBy(buckets, nowMs - atMs)] as const));
      return Promise.resolve(done);
    },
    write(clients, forgotten, present = members) {
      if (store.down) return Promise.resolve(failed);
      const nowMs = wallMs();
      members = present;
      for (const id of forgotten) records.delete(id);
      for (const [id, buckets] of clients) {
        const { buckets: old, atMs } = records.get(id) ?? { buckets: [], atMs: nowMs };
        records.set(id, { buckets: joinAged(old, nowMs - atMs, buckets).snapshots, atMs: nowMs });
      }
      return Promise.resolve(done);
    },
    close: () => Promise.resolve(),
  };
  return store;
}

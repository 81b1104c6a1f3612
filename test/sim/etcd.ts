import type {
  Change,
  Failed,
  StoredPolicies,
  PolicyWriteResult,
  Registration,
  Registry,
  WatchListener,
} from '../../src/membership/registry.js';
import { NO_DOCUMENT, type PolicyDocument } from '../../src/policy/policy-document.js';
import { ETCD } from './cuts.js';
import type { EventQueue } from './event-queue.js';
import type { Network } from './network.js';
import { runIn, type Process } from './process.js';

interface Lease {
  readonly ttlMs: number;
  /** Counts up with each renewal: an end that was planned before is none any more. */
  life: number;
}

interface Kept {
  readonly entry: Registration;
  readonly leaseId: string;
  readonly revision: number;
}

interface Watcher {
  readonly deliver: (revision: number, changes: readonly Change[]) => void;
  readonly cancel: () => void;
}

/** As one linearizable store: what a cluster of three shows as long as a majority of it is there. */
export interface SimEtcd {
  /** For one process, over the network. */
  registryOf(process: Process, network: Network): Registry;
  readonly entries: readonly Registration[];
  readonly revision: number;
  /** What is written down of the policies, and all that was before it, in order. */
  readonly stored: StoredPolicies;
  readonly allStored: readonly StoredPolicies[];
  /** Somebody else writes a document, something that is none, or nothing in its place. */
  put(document: PolicyDocument | string | undefined): void;
  /** Forgets what changed before now: watches that are to begin earlier end. */
  compact(): void;
  /** Loses all data, as if it were set up anew. */
  wipe(): void;
  /** Breaks all watches. */
  breakWatches(): void;
}

const NOTHING: StoredPolicies = { kind: 'document', revision: 0, document: NO_DOCUMENT };

/** @param rate of the clock that counts leases */
export function createSimEtcd(queue: EventQueue, rate = 1): SimEtcd {
  let name = 'etcd-1';
  let revision = 1;
  let compacted = 0;
  let leaseCount = 0;
  let stored = NOTHING;
  const allStored: StoredPolicies[] = [];
  let members = new Map<string, Kept>();
  let leases = new Map<string, Lease>();
  let history: { revision: number; changes: readonly Change[] }[] = [];
  const watchers = new Set<Watcher>();

  function change(changes: readonly Change[]): number {
    revision += 1;
    history.push({ revision, changes });
    for (const { deliver } of watchers) deliver(revision, changes);
    return revision;
  }

  function fileNext(next: (revision: number) => StoredPolicies): number {
    stored = next(revision + 1);
    allStored.push(stored);
    return change([{ kind: 'policies', stored }]);
  }

  function end(leaseId: string): void {
    leases.delete(leaseId);
    for (const [id, kept] of members) {
      if (kept.leaseId !== leaseId) continue;
      members.delete(id);
      change([{ kind: 'gone', id }]);
    }
  }

  function begin(leaseId: string, lease: Lease): void {
    lease.life += 1;
    const { life } = lease;
    queue.add(lease.ttlMs / rate, () => {
      if (leases.get(leaseId) === lease && lease.life === life) end(leaseId);
    });
  }

  function registryOf(process: Process, network: Network): Registry {
    const failed: Failed = { kind: 'failed', reason: 'no answer' };

    /** One question over the network: done when it arrives, answered when the answer does. */
    function call<T>(timeoutMs: number, act: () => T): Promise<T | Failed> {
      return new Promise((resolve) => {
        let over = false;
        const settle = (result: T | Failed): void => {
          if (over) return;
          over = true;
          resolve(result);
        };
        queue.add(timeoutMs, () => runIn(process, 'due', () => settle(failed)));
        const there = network.pass(process.id, ETCD);
        const arrivesMs = typeof there === 'number' ? there : there?.arrivesAfterMs;
        if (arrivesMs === undefined) return;
        queue.add(arrivesMs, () => {
          const result = act();
          const back = network.pass(ETCD, process.id);
          if (typeof back === 'number') queue.add(back, () => runIn(process, 'arrived', () => settle(result)));
        });
      });
    }

    return {
      read: (timeoutMs) =>
        call(timeoutMs, () => ({
          kind: 'view' as const,
          registry: name,
          revision,
          entries: [...members.values()].map(({ entry }) => entry),
          stored,
        })),
      grant: (ttlMs, timeoutMs) =>
        call(timeoutMs, () => {
          const leaseId = String((leaseCount += 1));
          const lease = { ttlMs, life: 0 };
          leases.set(leaseId, lease);
          begin(leaseId, lease);
          return { kind: 'granted' as const, leaseId, ttlMs };
        }),
      renew: (leaseId, timeoutMs) =>
        call(timeoutMs, () => {
          const lease = leases.get(leaseId);
          if (lease === undefined) return { kind: 'ended' as const };
          begin(leaseId, lease);
          return { kind: 'renewed' as const, ttlMs: lease.ttlMs, revision };
        }),
      write: (leaseId, entry, unless, timeoutMs) =>
        call(timeoutMs, () => {
          if (!leases.has(leaseId)) return { kind: 'ended' as const };
          const own = members.get(entry.id)?.revision ?? 0;
          const latest = Math.max(0, ...[...members.values()].map((kept) => kept.revision));
          if (own > unless.ownLaterThan || latest > (unless.anyLaterThan ?? Infinity))
            return { kind: 'overtaken' as const };
          const written = change([{ kind: 'is', entry }]);
          members.set(entry.id, { entry, leaseId, revision: written });
          return { kind: 'written' as const, revision: written };
        }),
      async storePolicies(document, inPlaceOf, timeoutMs) {
        const result = await call(timeoutMs, (): PolicyWriteResult => {
          if (inPlaceOf.registry !== name || inPlaceOf.revision !== stored.revision) return { kind: 'overtaken' };
          return { kind: 'written', revision: fileNext((at) => ({ kind: 'document', revision: at, document })) };
        });
        return result.kind === 'failed' ? { ...result, undone: false } : result;
      },
      async revoke(leaseId, timeoutMs) {
        await call(timeoutMs, () => end(leaseId));
      },
      watch: (after, listener) => watchFrom(process, network, after, listener),
    };
  }

  /** One stream: in order, and dead for good, without a word, once something on it was lost. */
  function watchFrom(process: Process, network: Network, after: number, listener: WatchListener): () => void {
    let open = true;
    let lastMs = 0;
    const tell = (action: () => void): void => {
      const back = network.pass(ETCD, process.id);
      if (typeof back !== 'number') {
        watchers.delete(watcher);
        return;
      }
      lastMs = Math.max(lastMs, queue.nowMs + back);
      queue.add(lastMs - queue.nowMs, () => runIn(process, 'arrived', () => (open ? action() : undefined)));
    };
    const watcher: Watcher = {
      deliver: (at, changes) => tell(() => listener.changed(at, changes)),
      cancel: () => {
        watchers.delete(watcher);
        tell(() => listener.ended('broken'));
      },
    };
    const there = network.pass(process.id, ETCD);
    if (typeof there === 'number') {
      queue.add(there, () => {
        if (!open) return;
        if (after < compacted) return tell(() => listener.ended('compacted'));
        watchers.add(watcher);
        for (const past of history) if (past.revision > after) watcher.deliver(past.revision, past.changes);
      });
    }
    return () => {
      open = false;
      watchers.delete(watcher);
    };
  }

  return {
    registryOf,
    get entries() {
      return [...members.values()].map(({ entry }) => entry);
    },
    get revision() {
      return revision;
    },
    get stored() {
      return stored;
    },
    allStored,
    put(document) {
      fileNext((at) => {
        if (document === undefined) return NOTHING;
        if (typeof document === 'string') return { kind: 'unreadable', revision: at, reason: document };
        return { kind: 'document', revision: at, document };
      });
    },
    compact() {
      compacted = revision;
      history = [];
    },
    wipe() {
      name = `${name}'`;
      revision = 1;
      members = new Map();
      leases = new Map();
      stored = NOTHING;
      history = [];
      for (const { cancel } of watchers) cancel();
    },
    breakWatches() {
      for (const { cancel } of watchers) cancel();
    },
  };
}

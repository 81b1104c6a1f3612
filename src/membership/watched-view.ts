import type { Log } from '../lib/log.js';
import type { Timers } from '../lib/clock.js';
import type { Change, Registration, Registry, RegistryView, StoredPolicies } from './registry.js';
import type { RegistryHealth } from './registry-health.js';
import type { RegistryMembership } from './registry-membership.js';

/** Pause before a failed read or an ended watch is tried again. */
const RETRY_MS = 100;

interface WatchedViewDeps {
  readonly timers: Timers;
  readonly registry: Registry;
  readonly membership: RegistryMembership;
  readonly health: RegistryHealth;
  readonly log: Log;
  /** Called with the policies as of a revision; `isOther`: of another registry than before. */
  readonly onPolicies: (stored: StoredPolicies, revision: number, isOther: boolean) => void;
}

/** The view that comes from the registry itself: read once, and then kept up to date by a watch. */
interface WatchedView {
  /** The latest view; its registry is empty before the first. */
  latest(): RegistryView;
  /** Reads the registry now. @returns the view, or `undefined` if the registry did not answer */
  read(): Promise<RegistryView | undefined>;
  /** Notes a revision of the registry. A watch that has not reached the one noted before is dead, and is replaced. */
  readonly noteRevision: (revision: number) => void;
  close(): void;
}

/** Begins at once, and reads and watches again after every failure, until `close`. */
export function createWatchedView(deps: WatchedViewDeps, { timeoutMs }: { timeoutMs: number }): WatchedView {
  const { timers, registry, membership, health, log, onPolicies } = deps;
  let latest: RegistryView = { registry: '', revision: 0, entries: [] };
  let notedRevision = 0;
  let endWatch: () => void = () => undefined;
  let closed = false;

  function take(view: RegistryView): void {
    latest = view;
    if (membership.isNew(view)) membership.adopt(view);
  }

  async function read(): Promise<RegistryView | undefined> {
    const view = await registry.read(timeoutMs);
    if (view.kind === 'failed') {
      health.failed('read', view.reason);
      return undefined;
    }
    health.answered();
    const isOther = view.registry !== latest.registry;
    // The watch may have brought a later view meanwhile.
    if (isOther || view.revision > latest.revision) {
      take(view);
      onPolicies(view.stored, view.revision, isOther);
    }
    return view;
  }

  async function follow(): Promise<void> {
    for (;;) {
      const view = await read();
      if (closed) return;
      if (view !== undefined) await watch(latest.revision);
      await timers.sleep(RETRY_MS);
    }
  }

  /** Resolves when the watch has ended. */
  function watch(after: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = registry.watch(after, {
        changed(revision, changes) {
          if (revision <= latest.revision) return;
          const policies = changes.find((change) => change.kind === 'policies');
          const view = { registry: latest.registry, revision, entries: withChanges(latest.entries, changes) };
          // A change of the policies alone makes no other ring.
          if (policies !== undefined && changes.length === 1) latest = view;
          else take(view);
          if (policies !== undefined) onPolicies(policies.stored, revision, false);
        },
        ended(why) {
          health.watchEnded();
          log.info({ why, revision: latest.revision }, 'the watch on the registry ended');
          resolve();
        },
      });
      endWatch = () => {
        stop();
        resolve();
      };
    });
  }

  void follow();

  return {
    latest: () => latest,
    read,
    noteRevision(revision) {
      if (notedRevision > latest.revision) endWatch();
      notedRevision = revision;
    },
    close() {
      closed = true;
      endWatch();
    },
  };
}

function withChanges(entries: readonly Registration[], changes: readonly Change[]): readonly Registration[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  for (const change of changes) {
    if (change.kind === 'is') byId.set(change.entry.id, change.entry);
    else if (change.kind === 'gone') byId.delete(change.id);
  }
  return [...byId.values()];
}

import type { Log, Timers } from '../lib/system.js';
import type { Change, Registration, Registry, RegistryView, StoredPolicies, RegistryHealth } from './registry.js';
import type { RegistryMembership } from './registry-membership.js';

/** Pause before a failed read or an ended watch is tried again. */
const RETRY_MS = 100;

/**
 * The view that comes from the registry itself: read once, and then kept up to date by a watch. It begins at once, and
 * reads and watches again after every failure, until `close`.
 */
export class WatchedView {
  /** Called with the policies as of a revision; `isOther`: of another registry than before. */
  onPolicies: (stored: StoredPolicies, revision: number, isOther: boolean) => void = () => undefined;
  private current: RegistryView = { registry: '', revision: 0, entries: [] };
  private notedRevision = 0;
  private endWatch: () => void = () => undefined;
  private closed = false;

  constructor(
    private readonly parts: {
      readonly timers: Timers;
      readonly registry: Registry;
      readonly membership: RegistryMembership;
      readonly health: RegistryHealth;
      readonly log: Log;
      readonly timeoutMs: number;
    },
  ) {
    void this.follow();
  }

  /** The latest view; its registry is empty before the first. */
  latest(): RegistryView {
    return this.current;
  }

  /** Reads the registry now. @returns the view, or `undefined` if the registry did not answer */
  async read(): Promise<RegistryView | undefined> {
    const view = await this.parts.registry.read(this.parts.timeoutMs);
    if (view.kind === 'failed') {
      this.parts.health.failed('read', view.reason);
      return undefined;
    }
    this.parts.health.answered();
    const isOther = view.registry !== this.current.registry;
    // The watch may have brought a later view meanwhile.
    if (isOther || view.revision > this.current.revision) {
      this.take(view);
      this.onPolicies(view.stored, view.revision, isOther);
    }
    return view;
  }

  /** Notes a revision of the registry. A watch that has not reached the one noted before is dead, and is replaced. */
  noteRevision(revision: number): void {
    if (this.notedRevision > this.current.revision) this.endWatch();
    this.notedRevision = revision;
  }

  close(): void {
    this.closed = true;
    this.endWatch();
  }

  private take(view: RegistryView): void {
    this.current = view;
    if (this.parts.membership.isNew(view)) this.parts.membership.adopt(view);
  }

  private async follow(): Promise<void> {
    for (;;) {
      const view = await this.read();
      if (this.closed) return;
      if (view !== undefined) await this.watch();
      await this.parts.timers.sleep(RETRY_MS);
    }
  }

  /** Resolves when the watch has ended. */
  private watch(): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.parts.registry.watch(this.current.revision, {
        changed: (revision, changes) => this.change(revision, changes),
        ended: (why) => {
          this.parts.health.failures.watch += 1;
          this.parts.log.info({ why, revision: this.current.revision }, 'the watch on the registry ended');
          resolve();
        },
      });
      this.endWatch = () => {
        stop();
        resolve();
      };
    });
  }

  private change(revision: number, changes: readonly Change[]): void {
    if (revision <= this.current.revision) return;
    const policies = changes.find((change) => change.kind === 'policies');
    const view = { registry: this.current.registry, revision, entries: withChanges(this.current.entries, changes) };
    // A change of the policies alone makes no other ring.
    if (policies !== undefined && changes.length === 1) this.current = view;
    else this.take(view);
    if (policies !== undefined) this.onPolicies(policies.stored, revision, false);
  }
}

function withChanges(entries: readonly Registration[], changes: readonly Change[]): readonly Registration[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  for (const change of changes) {
    if (change.kind === 'is') byId.set(change.entry.id, change.entry);
    else if (change.kind === 'gone') byId.delete(change.id);
  }
  return [...byId.values()];
}

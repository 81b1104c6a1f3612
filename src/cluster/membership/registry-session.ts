import type { RegistryMembership } from './registry-membership.js';
import type { Clock, Log, Timers } from '../ports.js';
import { NO_DOCUMENT } from '../../core/policy-document.js';
import type { PolicyDocument } from '../../core/policy-document.js';
import type { Change, StoredPolicies, StoreResult, Registration, Registry, RegistryView, Unless } from './registry.js';

/** Renewals in the life of a lease: four may be lost. */
const RENEWALS = 5;
/**
 * Of a lease's life, this part is not counted on. The registry's clock may run faster than this one by so much, and this node
 * reads its own in whole ms: docs/guarantees.md.
 */
const MARGIN_PART = 0.05;
/** Pause before something that did not work is tried again. */
const RETRY_MS = 100;

export interface RegistrySessionDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly registry: Registry;
  readonly membership: RegistryMembership;
  readonly log: Log;
}

interface RegistrySessionOptions {
  /** How long this node stays a member without renewing: whole seconds. */
  readonly ttlMs: number;
}

/** What did not work so far, by what was tried. */
type Failures = Readonly<Record<'read' | 'grant' | 'renew' | 'write' | 'watch' | 'policies', number>>;

/** What is written down of the policies, and the name of the registry. */
export interface KnownPolicies {
  readonly registry: string;
  readonly stored: StoredPolicies;
}

/** The document of policies in the registry, as this node knows it: by the same reads and the same watch as the members. */
export interface RegistryPolicyStore {
  /** The latest; `undefined` before the first view. */
  readonly known: KnownPolicies | undefined;
  /** Calls `listener` after each news. */
  onChange(listener: () => void): void;
  /** Reads what is there now. @returns whether the registry has answered */
  refresh(): Promise<boolean>;
  /** Writes a document down in the place of another one, and knows it then. */
  store(document: PolicyDocument, inPlaceOf: KnownPolicies): Promise<StoreResult>;
}

/** This node's place in the registry, and its view of all others'. */
export interface RegistrySession {
  /** Before this time of its own clock nobody decides in its place, and what is written down of it stays. */
  readonly holdsUntilMs: number;
  /** Ms until then, at least 0. */
  readonly leaseLeftMs: number;
  /** Whether the registry has answered within the time of two renewals. */
  readonly isReachable: boolean;
  readonly failures: Failures;
  readonly policyStore: RegistryPolicyStore;
  /** Views taken over from the registry itself. */
  readonly views: number;
  /** Writes this node down as joining, with its next life. @returns whether that is so */
  readonly register: () => Promise<boolean>;
  /** Writes down this node's next state; `active` only if nobody was written since the view it acts on. @returns the revision */
  publish(state: Registration['state']): Promise<number | undefined>;
  /** Takes this node out. */
  deregister(): Promise<void>;
  close(): void;
}

/** Keeps the lease and the view; begins at once. What the registry does not answer is tried again until `close`. */
export function createRegistrySession(deps: RegistrySessionDeps, { ttlMs }: RegistrySessionOptions): RegistrySession {
  const { clock, timers, registry, membership, log } = deps;
  const renewEveryMs = Math.floor(ttlMs / RENEWALS);
  const timeoutMs = renewEveryMs;
  const failures = { read: 0, grant: 0, renew: 0, write: 0, watch: 0, policies: 0 };
  let leaseId: string | undefined;
  let holdsUntilMs = -Infinity;
  let answeredAtMs = -Infinity;
  let renewing = false;
  let closed = false;
  let failing = false;
  let views = 0;
  /** The latest view that came from the registry itself, as its watch goes on from there. */
  let direct: RegistryView = { registry: '', revision: 0, entries: [] };
  let stored: StoredPolicies = { kind: 'document', revision: 0, document: NO_DOCUMENT };
  const storedListeners: (() => void)[] = [];
  /** The revision that the last renewal told of. */
  let toldRevision = 0;
  /** Of the last write of this node that is known to have been done. */
  let writtenRevision = 0;
  let endWatch: () => void = () => undefined;

  function failed(what: keyof Failures, reason: string): void {
    failures[what] += 1;
    if (!failing) log.warn({ what, reason }, 'the registry of members does not answer');
    failing = true;
  }

  function answered(): void {
    answeredAtMs = clock.nowMs();
    if (failing) log.info({}, 'the registry of members answers again');
    failing = false;
  }

  function take(view: RegistryView): void {
    direct = view;
    if (!membership.isNews(view)) return;
    views += 1;
    membership.adopt(view);
  }

  /** @param next the document as it was at a revision, unless this node has written a later one itself */
  function takeStored(next: StoredPolicies, revision: number): void {
    if (revision < stored.revision) return;
    stored = next;
    for (const listener of storedListeners) listener();
  }

  async function read(): Promise<RegistryView | undefined> {
    const view = await registry.read(timeoutMs);
    if (view.kind === 'failed') {
      failed('read', view.reason);
      return undefined;
    }
    answered();
    // A watch may have told of more in the meantime.
    if (view.registry !== direct.registry || view.revision > direct.revision) {
      const isOther = view.registry !== direct.registry;
      take(view);
      takeStored(view.stored, isOther ? Infinity : view.revision);
    }
    return view;
  }

  /** Reads, watches from there, and reads again when the watch has ended, for as long as this node lives. */
  async function follow(): Promise<void> {
    for (;;) {
      const view = await read();
      if (closed) return;
      if (view !== undefined) await watch(direct.revision);
      await timers.sleep(RETRY_MS);
    }
  }

  function watch(after: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = registry.watch(after, {
        changed(revision, changes) {
          if (revision <= direct.revision) return;
          const news = changes.find((change) => change.kind === 'policies');
          const view = { registry: direct.registry, revision, entries: withChanges(direct.entries, changes) };
          // A revision that is about policies alone makes no other ring.
          if (news !== undefined && changes.length === 1) direct = view;
          else take(view);
          if (news !== undefined) takeStored(news.stored, revision);
        },
        ended(why) {
          failures.watch += 1;
          log.info({ why, revision: direct.revision }, 'the watch on members has ended');
          resolve();
        },
      });
      endWatch = () => {
        stop();
        resolve();
      };
    });
  }

  function held(sentAtMs: number, grantedMs: number): void {
    holdsUntilMs = Math.max(holdsUntilMs, sentAtMs + Math.floor(grantedMs * (1 - MARGIN_PART)));
  }

  function lost(): void {
    leaseId = undefined;
    holdsUntilMs = -Infinity;
    log.warn({}, 'the lease has ended, joins again');
    membership.deregistered();
  }

  async function renew(): Promise<void> {
    if (leaseId === undefined || renewing) return;
    const id = leaseId;
    const sentAtMs = clock.nowMs();
    renewing = true;
    const renewed = await registry.renew(id, timeoutMs);
    renewing = false;
    if (id !== leaseId || closed) return;
    if (renewed.kind === 'failed') return failed('renew', renewed.reason);
    answered();
    if (renewed.kind === 'ended') return lost();
    held(sentAtMs, renewed.ttlMs);
    // A watch whose connection is dead says nothing; one that is alive has had the time of a renewal to tell of this.
    if (toldRevision > direct.revision) endWatch();
    toldRevision = renewed.revision;
  }

  async function grant(): Promise<string | undefined> {
    const sentAtMs = clock.nowMs();
    const granted = await registry.grant(ttlMs, timeoutMs);
    if (granted.kind === 'failed') {
      failed('grant', granted.reason);
      return undefined;
    }
    holdsUntilMs = -Infinity;
    held(sentAtMs, granted.ttlMs);
    return granted.leaseId;
  }

  /** @returns the revision; `undefined` where it was overtaken, or nobody knows */
  async function write(incarnation: number, state: Registration['state'], unless: Unless): Promise<number | undefined> {
    if (leaseId === undefined) return undefined;
    const { id, version, url } = membership.self;
    const written = await registry.write(leaseId, { id, incarnation, state, version, url }, unless, timeoutMs);
    if (written.kind === 'failed') failed('write', written.reason);
    else answered();
    if (written.kind === 'ended') lost();
    if (written.kind !== 'written') return undefined;
    writtenRevision = Math.max(writtenRevision, written.revision);
    return written.revision;
  }

  const policyStore: RegistryPolicyStore = {
    get known() {
      return direct.registry === '' ? undefined : { registry: direct.registry, stored };
    },
    onChange: (listener) => void storedListeners.push(listener),
    refresh: async () => (await read()) !== undefined,
    async store(document, { registry: name, stored: { revision } }) {
      const result = await registry.storePolicies(document, { registry: name, revision }, timeoutMs);
      if (result.kind === 'failed') failed('policies', result.reason);
      else answered();
      // The watch tells of it, too: by then it is no news.
      if (result.kind === 'written' && direct.registry === name)
        takeStored({ kind: 'document', revision: result.revision, document }, result.revision);
      return result;
    },
  };

  const stop = timers.every(renewEveryMs, () => void renew());
  void follow();

  return {
    get holdsUntilMs() {
      return holdsUntilMs;
    },
    get leaseLeftMs() {
      return Math.max(0, holdsUntilMs - clock.nowMs());
    },
    get isReachable() {
      return clock.nowMs() - answeredAtMs < 2 * renewEveryMs;
    },
    failures,
    policyStore,
    get views() {
      return views;
    },
    async register() {
      if (membership.isRegistered) return true;
      leaseId ??= await grant();
      const view = await read();
      if (leaseId === undefined || view === undefined || closed) return false;
      const incarnation = Math.max(membership.self.incarnation, view.revision + 1);
      const unless = { ownLaterThan: view.revision, anyLaterThan: undefined };
      const revision = await write(incarnation, 'joining', unless);
      if (revision === undefined) return false;
      membership.registered(incarnation, revision);
      return true;
    },
    publish(state) {
      // Whatever of its own writes is not known here yet comes with the next view.
      const ownLaterThan = Math.max(direct.revision, writtenRevision);
      const anyLaterThan = state === 'active' ? membership.epoch : undefined;
      return write(membership.self.incarnation, state, { ownLaterThan, anyLaterThan });
    },
    async deregister() {
      const id = leaseId;
      leaseId = undefined;
      if (id !== undefined) await registry.revoke(id, timeoutMs);
    },
    close() {
      closed = true;
      stop();
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

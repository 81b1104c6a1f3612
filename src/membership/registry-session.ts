import type { Clock, Timers } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import type { Registration, Registry, Unless } from './registry.js';
import { createRegistryHealth } from './registry-health.js';
import type { RegistryHealth } from './registry-health.js';
import { createRegistryLease } from './registry-lease.js';
import type { RegistryMembership } from './registry-membership.js';
import { createRegistryPolicyStore } from './registry-policy-store.js';
import type { RegistryPolicyStore } from './registry-policy-store.js';
import { createWatchedView } from './watched-view.js';

/** Renewals in the time to live of a lease: four may be lost. */
const RENEWALS = 5;

export interface RegistrySessionDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly registry: Registry;
  readonly membership: RegistryMembership;
  readonly log: Log;
}

interface RegistrySessionOptions {
  /** How long this node stays a member without renewing its lease: whole seconds. */
  readonly ttlMs: number;
}

/** This node's registration, its lease, and its view of all members and policies. */
export interface RegistrySession extends Pick<RegistryHealth, 'failures' | 'isReachable'> {
  /** Until this time of its own clock, the registration of this node stays, and no other node decides for it. */
  holdsUntilMs(): number;
  /** Ms until then, at least 0. */
  leaseLeftMs(): number;
  readonly policyStore: RegistryPolicyStore;
  /** Registers this node as joining, with its next incarnation. @returns whether it is registered */
  readonly register: () => Promise<boolean>;
  /**
   * Writes this node's next state; `active` only if no member was written since the view that this node acts on.
   * @returns the revision; `undefined` if another write came first, or the registry did not answer
   */
  publish(state: Registration['state']): Promise<number | undefined>;
  /** Ends the lease, and with it the registration. */
  deregister(): Promise<void>;
  close(): void;
}

/** Begins at once, and tries again what the registry does not answer, until `close`. */
export function createRegistrySession(deps: RegistrySessionDeps, { ttlMs }: RegistrySessionOptions): RegistrySession {
  const { clock, registry, membership, log } = deps;
  const renewEveryMs = Math.floor(ttlMs / RENEWALS);
  const timeoutMs = renewEveryMs;
  const health = createRegistryHealth(deps, { renewEveryMs });
  const view = createWatchedView(
    { ...deps, health, onPolicies: (stored, revision, isOther) => policyStore.note(stored, revision, isOther) },
    { timeoutMs },
  );
  const lease = createRegistryLease(
    {
      ...deps,
      health,
      onRenewed: view.noteRevision,
      onExpired() {
        log.warn({}, 'the lease expired; rejoining');
        membership.deregistered();
      },
    },
    { ttlMs, renewEveryMs, timeoutMs },
  );
  const policyStore = createRegistryPolicyStore(
    {
      registry,
      health,
      registryName: () => view.latest().registry,
      refresh: async () => (await view.read()) !== undefined,
    },
    { timeoutMs },
  );
  /** The latest write of this node that is known to be done. */
  let writtenRevision = 0;
  let closed = false;

  async function write(incarnation: number, state: Registration['state'], unless: Unless): Promise<number | undefined> {
    const leaseId = lease.id();
    if (leaseId === undefined) return undefined;
    const { id, version, url } = membership.self();
    const written = await registry.write(leaseId, { id, incarnation, state, version, url }, unless, timeoutMs);
    if (written.kind === 'failed') health.failed('write', written.reason);
    else health.answered();
    if (written.kind === 'ended') lease.expired();
    if (written.kind !== 'written') return undefined;
    writtenRevision = Math.max(writtenRevision, written.revision);
    return written.revision;
  }

  return {
    holdsUntilMs: () => lease.holdsUntilMs(),
    leaseLeftMs: () => Math.max(0, lease.holdsUntilMs() - clock.nowMs()),
    failures: health.failures,
    isReachable: health.isReachable,
    policyStore,
    async register() {
      if (membership.isRegistered()) return true;
      const hasLease = await lease.acquire();
      const now = await view.read();
      if (!hasLease || now === undefined || closed) return false;
      const incarnation = Math.max(membership.self().incarnation, now.revision + 1);
      const unless = { ownLaterThan: now.revision, anyLaterThan: undefined };
      const revision = await write(incarnation, 'joining', unless);
      if (revision === undefined) return false;
      membership.registered(incarnation, revision);
      return true;
    },
    publish(state) {
      // A write of this node that it does not know to be done comes with the next view.
      const ownLaterThan = Math.max(view.latest().revision, writtenRevision);
      const anyLaterThan = state === 'active' ? membership.epoch() : undefined;
      return write(membership.self().incarnation, state, { ownLaterThan, anyLaterThan });
    },
    deregister: lease.revoke,
    close() {
      closed = true;
      lease.close();
      view.close();
    },
  };
}

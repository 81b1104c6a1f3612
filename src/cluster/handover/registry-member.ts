import type { NodeId } from '../../core/ring.js';
import { createAcknowledger } from '../replication/acknowledger.js';
import type { Acknowledger, AcknowledgerDeps, AcknowledgerOptions } from '../replication/acknowledger.js';
import { createRegistrySession } from '../membership/registry-session.js';
import type { RegistrySession, RegistrySessionDeps } from '../membership/registry-session.js';
import { drained } from './leaver.js';
import type { LeaverDeps } from './leaver.js';
import { createRegistryProbing } from '../membership/probing.js';
import type { Probing } from '../membership/probing.js';
import { createRegistryMembership } from '../membership/registry-membership.js';
import type { RegistryMembership, RegistryMembershipOptions } from '../membership/registry-membership.js';

/** How often others are asked whether they have seen that this node leaves, and the pause before the next time. */
const LEAVE_TRIES = 20;
const LEAVE_PAUSE_MS = 50;

/** The life of a lease in the registry: a dead member is replaced after it, and what keeps it costs a request in a fifth of it. */
const MEMBER_TTL_MS = 5_000;

interface RegistryMemberOptions extends Omit<RegistryMembershipOptions, 'onDeregistered' | 'strict'> {
  /** How long this node stays a member without renewing: whole seconds. Default 5,000 ms. */
  readonly memberTtlMs?: number;
  /** Default false. */
  readonly strict?: boolean;
}

/** A node whose members are those of a registry: what it does instead of telling all others that it lives. */
export interface RegistryMember {
  readonly membership: RegistryMembership;
  readonly session: RegistrySession;
  /** Finds, before each decision, whether this node may decide at all. */
  checkLease(nowMs: number): void;
  /**
   * In strict mode: makes what is admitted known first.
   * @param options of acknowledgements
   */
  acknowledger(parts: Pick<AcknowledgerDeps, 'copies' | 'ask'>, options: AcknowledgerOptions): Acknowledger | undefined;
  readonly probing: Probing;
  /** Writes this node down as active; its clients were handed over. @returns whether it is */
  readonly activate: () => Promise<boolean>;
  /**
   * Takes an active member out of the ring with nothing forgotten.
   * @param ids those who leave at the same time
   */
  leave(deps: LeaverDeps, options: { readonly drainMs: number; readonly ids: readonly NodeId[] }): Promise<void>;
}

export function createRegistryMember(
  deps: Omit<RegistrySessionDeps, 'membership'>,
  options: RegistryMemberOptions,
): RegistryMember {
  const { clock, timers, log } = deps;
  const onDeregistered = (): void => log.warn({}, 'is not written down as a member any more, joins again');
  const { strict = false, memberTtlMs: ttlMs = MEMBER_TTL_MS } = options;
  const membership = createRegistryMembership({ clock }, { ...options, strict, onDeregistered });
  const session = createRegistrySession({ ...deps, membership }, { ttlMs });
  const probing = createRegistryProbing({ membership, isReachable: () => session.isReachable() });

  function checkLease(nowMs: number): void {
    if (!strict) return;
    const over = !membership.mustJoin && nowMs >= session.holdsUntilMs;
    if (over === membership.leaseExpired) return;
    if (over) log.warn({}, 'the lease could not be renewed, decides no more');
    else log.info({}, 'decides again');
    membership.setLeaseExpired(over);
  }

  return {
    membership,
    session,
    acknowledger(parts, acknowledgerOptions) {
      if (!strict) return undefined;
      const mayDecide = (): boolean => {
        checkLease(clock.nowMs());
        return !membership.leaseExpired && !membership.mustJoin;
      };
      return createAcknowledger({ clock, timers, membership, mayDecide, ...parts }, acknowledgerOptions);
    },
    probing,
    checkLease,
    async activate() {
      if ((await session.publish('active')) === undefined) return false;
      membership.declare('active');
      return true;
    },
    async leave(parts, { drainMs, ids }) {
      const { limiter, leaseHolder, replicator, peerRpc } = parts;
      const drain = (): Promise<void> => drained(parts, drainMs);
      if (membership.mustJoin) {
        membership.declare('left');
        return session.deregister();
      }
      // Who has died a moment ago is found out now, as its copies are gone with it.
      await Promise.all([leaseHolder.release(), peerRpc.tell(membership.ring.members, [])]);
      await drain();
      const letGo = limiter.hold();
      replicator.handOffFrom(ids);
      await drain();
      const revision = await session.publish('leaving');
      membership.declare('leaving');
      // Who does not know yet sends on checks that nobody here will answer.
      for (let i = 0; revision !== undefined && i < LEAVE_TRIES; i += 1) {
        await peerRpc.tell(membership.others(), []);
        const up = membership.others().filter((id) => !membership.isDown(id));
        if (up.every((id) => membership.hasSeen(id, revision))) break;
        await timers.sleep(LEAVE_PAUSE_MS);
      }
      // Should others leave at the same time, this node's clients have other owners than it knew.
      await drain();
      membership.declare('left');
      await session.deregister();
      letGo();
    },
  };
}

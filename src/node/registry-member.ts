import { createAcknowledger } from '../replication/acknowledger.js';
import type { Acknowledger, AcknowledgerDeps, AcknowledgerOptions } from '../replication/acknowledger.js';
import { createRegistrySession } from '../membership/registry-session.js';
import type { RegistrySession, RegistrySessionDeps } from '../membership/registry-session.js';
import { drain, handOver } from './leaver.js';
import type { GroupLeave, LeaverDeps } from './leaver.js';
import { RegistryProbing } from '../membership/probing.js';
import type { Probing } from '../membership/probing.js';
import type { MembershipOptions } from '../membership/membership.js';
import { RegistryMembership } from '../membership/registry-membership.js';

/** A leaving node asks others this often whether they have seen that it leaves, with this pause in between. */
const LEAVE_TRIES = 20;
const LEAVE_PAUSE_MS = 50;

/** A dead member stays registered this long, and its lease costs a request in each fifth of it. */
const MEMBER_TTL_MS = 5_000;

interface RegistryMemberOptions extends MembershipOptions {
  /** How long this node stays a member without renewing its lease: whole seconds. Default 5,000 ms. */
  readonly memberTtlMs?: number;
  /** Default false. */
  readonly strict?: boolean;
}

/** A member by registration: what a registry changes in the life of a node. */
export interface RegistryMember {
  readonly membership: RegistryMembership;
  readonly session: RegistrySession;
  readonly probing: Probing;
  /** In strict mode: finds whether this node may decide at all; to be called before each decision. */
  checkLease(nowMs: number): void;
  /** Present in strict mode: an admission counts once the replicas have it. */
  acknowledger(parts: Pick<AcknowledgerDeps, 'copies' | 'ask'>, options: AcknowledgerOptions): Acknowledger | undefined;
  /** Registers this node as active, once it has its clients. @returns whether it is */
  readonly activate: () => Promise<boolean>;
  /** Takes an active member out of the ring with nothing lost. */
  leave(deps: LeaverDeps, options: { readonly drainMs: number; readonly group: GroupLeave }): Promise<void>;
}

export function createRegistryMember(
  deps: Omit<RegistrySessionDeps, 'membership'>,
  options: RegistryMemberOptions,
): RegistryMember {
  const { clock, timers, log } = deps;
  const onDeregistered = (): void => log.warn({}, 'the registration is gone; rejoining');
  const { strict = false, memberTtlMs: ttlMs = MEMBER_TTL_MS } = options;
  const membership = new RegistryMembership(clock, { ...options, strict, onDeregistered });
  const session = createRegistrySession({ ...deps, membership }, { ttlMs });
  const probing = new RegistryProbing(membership, session.isReachable);

  function checkLease(nowMs: number): void {
    if (!strict) return;
    const expired = !membership.mustJoin() && nowMs >= session.holdsUntilMs();
    if (expired === membership.leaseExpired()) return;
    if (expired) log.warn({}, 'lease expired; deciding nothing until it is renewed');
    else log.info({}, 'lease renewed; deciding again');
    membership.setLeaseExpired(expired);
  }

  /** Other nodes forward checks to this one until they know that it leaves. */
  async function untilSeen(revision: number, { peerRpc }: LeaverDeps): Promise<void> {
    for (let i = 0; i < LEAVE_TRIES; i += 1) {
      await peerRpc.tell(membership.others(), []);
      const up = membership.others().filter((id) => !membership.isDown(id));
      if (up.every((id) => membership.hasSeen(id, revision))) return;
      await timers.sleep(LEAVE_PAUSE_MS);
    }
  }

  return {
    membership,
    session,
    probing,
    checkLease,
    acknowledger(parts, acknowledgerOptions) {
      if (!strict) return undefined;
      const mayDecide = (): boolean => {
        checkLease(clock.nowMs());
        return !membership.leaseExpired() && !membership.mustJoin();
      };
      return createAcknowledger({ clock, timers, membership, mayDecide, ...parts }, acknowledgerOptions);
    },
    async activate() {
      if ((await session.publish('active')) === undefined) return false;
      membership.declare('active');
      return true;
    },
    async leave(parts, { drainMs, group: { ids } }) {
      if (membership.mustJoin()) {
        membership.declare('left');
        return session.deregister();
      }
      // The registry orders the leaves, so a group needs no barrier.
      const release = await handOver(parts, { drainMs, group: { ids, barrier: () => Promise.resolve(ids) } });
      const revision = await session.publish('leaving');
      membership.declare('leaving');
      if (revision !== undefined) await untilSeen(revision, parts);
      // If others leave at the same time, the clients of this node have other next owners than it knew.
      await drain(parts, drainMs);
      membership.declare('left');
      await session.deregister();
      release();
    },
  };
}

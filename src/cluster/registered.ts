import type { NodeId } from '../core/ring.js';
import { createAcknowledger } from './acknowledger.js';
import type { Acknowledger, AcknowledgerDeps, AcknowledgerOptions } from './acknowledger.js';
import { createEnrolment } from './enrolment.js';
import type { Enrolment, EnrolmentDeps } from './enrolment.js';
import { settled } from './leaver.js';
import type { LeaverDeps } from './leaver.js';
import type { MemberRecord } from './messages.js';
import { createOrderedMembership } from './ordered-membership.js';
import type { OrderedMembership, OrderedMembershipOptions } from './ordered-membership.js';

/** So many others are asked about a member that does not answer, and, where the registry does not, for its latest view. */
const ASKED_ABOUT = 3;
/** How often others are asked whether they have seen that this node leaves, and the pause before the next time. */
const PARTING_TRIES = 20;
const PARTING_PAUSE_MS = 50;

/** The life of a lease in the registry: a dead member is replaced after it, and what keeps it costs a request in a fifth of it. */
const MEMBER_TTL_MS = 5_000;

export interface RegisteredOptions extends Omit<OrderedMembershipOptions, 'onExpelled' | 'strict'> {
  /** How long this node stays a member without renewing: whole seconds. Default 5,000 ms. */
  readonly memberTtlMs?: number;
  /** Default false. */
  readonly strict?: boolean;
}

/** A node whose members are those of a registry: what it does instead of telling all others that it lives. */
export interface Registered {
  readonly membership: OrderedMembership;
  readonly enrolment: Enrolment;
  /** Finds, before each decision, whether this node may decide at all. */
  judge(nowMs: number): void;
  /**
   * In strict mode: makes what is admitted known first.
   * @param options of acknowledgements
   */
  acknowledger(parts: Pick<AcknowledgerDeps, 'copies' | 'ask'>, options: AcknowledgerOptions): Acknowledger | undefined;
  /** Whom to exchange heartbeats with now: those who do not answer, and a few others who may know more. */
  readonly wanted: (late: readonly MemberRecord[]) => readonly NodeId[];
  /** Writes this node down as active; its clients were handed over. @returns whether it is */
  readonly activate: () => Promise<boolean>;
  /**
   * Takes an active member out of the ring with nothing forgotten.
   * @param ids those who leave at the same time
   */
  leave(deps: LeaverDeps, options: { readonly settledMs: number; readonly ids: readonly NodeId[] }): Promise<void>;
}

export function createRegistered(deps: Omit<EnrolmentDeps, 'membership'>, options: RegisteredOptions): Registered {
  const { clock, timers, log } = deps;
  const onExpelled = (): void => log.warn({}, 'is not written down as a member any more, joins again');
  const { strict = false, memberTtlMs: ttlMs = MEMBER_TTL_MS } = options;
  const membership = createOrderedMembership({ clock }, { ...options, strict, onExpelled });
  const enrolment = createEnrolment({ ...deps, membership }, { ttlMs });
  let turn = 0;

  function judge(nowMs: number): void {
    if (!strict) return;
    const over = !membership.mustJoin && nowMs >= enrolment.holdsUntilMs;
    if (over === membership.lapsed) return;
    if (over) log.warn({}, 'the lease could not be renewed, decides no more');
    else log.info({}, 'decides again');
    membership.lapse(over);
  }

  return {
    membership,
    enrolment,
    acknowledger(parts, acknowledgerOptions) {
      if (!strict) return undefined;
      const mayDecide = (): boolean => {
        judge(clock.nowMs());
        return !membership.lapsed && !membership.mustJoin;
      };
      return createAcknowledger({ clock, timers, membership, mayDecide, ...parts }, acknowledgerOptions);
    },
    judge,
    wanted(late) {
      if (late.length === 0 && enrolment.isReachable) return [];
      const missed = new Set(late.map(({ id }) => id));
      const present = membership.others().filter((id) => !missed.has(id));
      turn += ASKED_ABOUT;
      const few = Array.from(
        { length: Math.min(ASKED_ABOUT, present.length) },
        (_, i) => present[(turn + i) % present.length]!,
      );
      return [...missed, ...few];
    },
    async activate() {
      if ((await enrolment.publish('active')) === undefined) return false;
      membership.declare('active');
      return true;
    },
    async leave(parts, { settledMs, ids }) {
      const { limiter, lessee, replicator, contacts } = parts;
      const settle = (): Promise<void> => settled(parts, settledMs);
      if (membership.mustJoin) {
        membership.declare('left');
        return enrolment.withdraw();
      }
      // Who has died a moment ago is found out now, as its copies are gone with it.
      await Promise.all([lessee.release(), contacts.tell(membership.ring.members, [])]);
      await settle();
      const letGo = limiter.hold();
      replicator.entrust(ids);
      await settle();
      const revision = await enrolment.publish('leaving');
      membership.declare('leaving');
      // Who does not know yet sends on checks that nobody here will answer.
      for (let i = 0; revision !== undefined && i < PARTING_TRIES; i += 1) {
        await contacts.tell(membership.others(), []);
        const up = membership.others().filter((id) => !membership.isDown(id));
        if (up.every((id) => membership.hasSeen(id, revision))) break;
        await timers.sleep(PARTING_PAUSE_MS);
      }
      // Should others leave at the same time, this node's clients have other owners than it knew.
      await settle();
      membership.declare('left');
      await enrolment.withdraw();
      letGo();
    },
  };
}

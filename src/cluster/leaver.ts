import type { NodeId } from '../core/ring.js';
import type { Contacts } from './contacts.js';
import type { Lessee } from './lessee.js';
import type { Limiter } from './limiter.js';
import type { Membership } from './membership.js';
import type { DeclaredState, MemberRecord } from './messages.js';
import type { Replicator } from './replicator.js';

/** Several that leave at the same time and know of each other, as they are stopped together. */
export interface Parting {
  /** All of them, this node among them. */
  readonly ids: readonly NodeId[];
  /**
   * Resolves, each time, when all of them have called it as often as this node, or will not: with those that have, in an order
   * that is the same for all.
   */
  meet(): Promise<readonly NodeId[]>;
}

export interface LeaverDeps {
  readonly membership: Membership;
  readonly limiter: Limiter;
  readonly lessee: Lessee;
  readonly replicator: Replicator;
  readonly contacts: Contacts;
}

/**
 * Takes an active member out of the ring with nothing forgotten: hold, send what those lack who decide next, say so, forward what
 * waited. Where nobody stays it goes on deciding.
 *
 * Those of one parting do not count on each other: each hands over to those who stay, and they are out of the ring in one
 * step, when all have. Of others nobody knows who else leaves: they look again once they have said it.
 * @param settledMs how long each sending may take
 */
export async function leave(
  deps: LeaverDeps,
  { settledMs }: { settledMs: number },
  parting: Parting = aloneAs(deps.membership.self.id),
): Promise<void> {
  const { membership, limiter, lessee, replicator, contacts } = deps;
  const self = membership.self.id;
  const outsiders = (): readonly NodeId[] => membership.others().filter((id) => !parting.ids.includes(id));
  const stays = (id: NodeId): boolean => !membership.isDown(id) && membership.stateOf(id) !== 'leaving';

  const settle = (): Promise<void> => settled(deps, settledMs);

  async function tellAll(state: DeclaredState): Promise<void> {
    membership.declare(state);
    await contacts.tell(outsiders(), membership.records());
  }

  /** All are out of the ring at once, and one, the first, counts as leaving for all of them. */
  async function leaveTogether([first, ...rest]: readonly NodeId[]): Promise<void> {
    membership.learn(membership.recordsOf([first!]).map((record) => saying(record, 'leaving')));
    membership.learn(membership.recordsOf(rest).map((record) => saying(record, 'left')));
    await tellAll(self === first ? 'leaving' : 'left');
    // One who leaves too may have counted on this node until a moment ago.
    if (outsiders().some((id) => membership.stateOf(id) === 'leaving')) await settle();
    await parting.meet();
    await tellAll('left');
  }

  async function leaveAlone(): Promise<void> {
    membership.declare('leaving');
    await contacts.tell(membership.others(), membership.records());
    // Should others leave at the same time, this node's clients have other owners than it knew.
    await settle();
    membership.declare('left');
    await contacts.tell(membership.others(), membership.records());
  }

  if (!outsiders().some(stays)) return;
  // Who has died a moment ago is found out now, as its copies are gone with it.
  await Promise.all([lessee.release(), contacts.tell(membership.ring.members, [])]);
  await settle();
  // So that nobody holds checks while another still has much to send.
  await parting.meet();
  const release = limiter.hold();
  replicator.entrust(parting.ids);
  await settle();
  // Those who part say of each other that they leave: it comes back to each, who must know that it is its own word.
  membership.announce('left');
  const ready = await parting.meet();
  if (parting.ids.length > 1 && parting.ids.every((id) => ready.includes(id))) await leaveTogether(ready);
  else await leaveAlone();
  release();
}

/** Until every owner and holder of copies has what the ring, which may change meanwhile, entitles it to. */
export async function settled(
  { membership, replicator }: Pick<LeaverDeps, 'membership' | 'replicator'>,
  settledMs: number,
): Promise<void> {
  for (let version = 0; version !== membership.ringVersion;) {
    version = membership.ringVersion;
    if (membership.ring.members.some((id) => id !== membership.self.id)) await replicator.settled(settledMs);
  }
}

function aloneAs(self: NodeId): Parting {
  const ids = [self];
  return { ids, meet: () => Promise.resolve(ids) };
}

/** A later word of this member, and earlier than any of its own that says the same. */
function saying(record: MemberRecord, state: DeclaredState): MemberRecord {
  return { ...record, state, beat: 0, silentMs: 0 };
}

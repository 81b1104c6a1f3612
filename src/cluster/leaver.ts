import type { Contacts } from './contacts.js';
import type { Lessee } from './lessee.js';
import type { Limiter } from './limiter.js';
import type { Membership } from './membership.js';
import type { DeclaredState } from './messages.js';
import type { Replicator } from './replicator.js';

export interface LeaverDeps {
  readonly membership: Membership;
  readonly limiter: Limiter;
  readonly lessee: Lessee;
  readonly replicator: Replicator;
  readonly contacts: Contacts;
}

/**
 * Takes an active member out of the ring with nothing forgotten: hold, send what successors lack, say so, forward what waited.
 * @param settledMs how long each sending may take
 */
export async function leave(deps: LeaverDeps, { settledMs }: { settledMs: number }): Promise<void> {
  const { membership, limiter, lessee, replicator, contacts } = deps;

  /** Until every owner and successor has what the ring, which may change meanwhile, entitles it to. */
  async function settle(): Promise<void> {
    for (let version = 0; version !== membership.ringVersion;) {
      version = membership.ringVersion;
      if (membership.ring.members.some((id) => id !== membership.self.id)) await replicator.settled(settledMs);
    }
  }

  async function tellAll(state: DeclaredState): Promise<void> {
    membership.declare(state);
    await contacts.tell(membership.others(), membership.records());
  }

  // Who has died a moment ago is found out now, as its copies are gone with it.
  await Promise.all([lessee.release(), contacts.tell(membership.ring.members, [])]);
  await settle();
  const release = limiter.hold();
  replicator.entrust();
  await settle();
  await tellAll('leaving');
  // Should others leave at the same time, this node's clients have other owners than it knew.
  await settle();
  await tellAll('left');
  release();
}

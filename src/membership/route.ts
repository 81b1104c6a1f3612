import type { NodeId, Placed } from '../limits/ring/ring.js';
import type { Membership } from './membership.js';
import type { Clock } from '../lib/clock.js';

/** The node that decides for a client. */
type Route =
  /** This node owns it. */
  | { readonly kind: 'own' }
  /** This node acts for an owner that is down, with the copy it holds. */
  | { readonly kind: 'acting' }
  | { readonly kind: 'forward'; readonly id: NodeId }
  /** No member of the ring that may decide is up, as far as this node can tell. */
  | { readonly kind: 'nobody' };

const OWN: Route = { kind: 'own' };
const ACTING: Route = { kind: 'acting' };
const NOBODY: Route = { kind: 'nobody' };

/**
 * The owner, or the first of its successors that is up. That one owns the client next if the owner does not come back.
 * @param nowMs the present reading of the clock, if the caller has it
 */
export function route(membership: Membership, client: Placed, nowMs?: number): Route {
  const ring = membership.ring();
  const self = membership.self().id;
  const owner = ring.owner(client);
  if (owner === undefined) return NOBODY;
  if (owner === self) return membership.leaseExpired() ? NOBODY : OWN;
  if (!membership.isDown(owner, nowMs)) return { kind: 'forward', id: owner };
  if (!membership.allowsActingOwner) return NOBODY;
  const actingOwner = ring.findSuccessor(client, (id) => id === self || !membership.isDown(id, nowMs));
  if (actingOwner === undefined) return NOBODY;
  return actingOwner === self ? ACTING : { kind: 'forward', id: actingOwner };
}

/** Finds the node that decides for a client now, also after a pause in which that may have changed. */
export class Router {
  /** @param detectPause called first: after a pause, this node may not decide, whatever it knew */
  constructor(
    private readonly clock: Clock,
    private readonly membership: Membership,
    private readonly detectPause: (nowMs: number) => void,
  ) {}

  /** @returns the id of the node, as far as this node knows now; `undefined`: none that may is up */
  deciderOf(client: Placed): NodeId | undefined {
    const { membership } = this;
    this.detectPause(this.clock.nowMs());
    const to = route(membership, client);
    if (to.kind === 'forward') return to.id;
    if (to.kind === 'nobody') return undefined;
    if (to.kind === 'acting') membership.noteActing(client);
    return membership.self().id;
  }
}

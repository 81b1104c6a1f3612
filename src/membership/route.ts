import type { NodeId, Placed } from '../limits/ring/ring.js';
import type { DecisionGate } from './decision-gate.js';
import type { Membership } from './membership.js';
import type { Clock, Timers } from '../lib/system.js';
import type { PeerAnswer, PeerMessage, Ask } from '../protocol/messages.js';

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
  if (owner === self) return membership.registrationExpired() ? NOBODY : OWN;
  if (!membership.isDown(owner, nowMs)) return { kind: 'forward', id: owner };
  if (membership.takeover === 'strict') return NOBODY;
  const actingOwner = ring.findSuccessor(client, (id) => id === self || !membership.isDown(id, nowMs));
  if (actingOwner === undefined) return NOBODY;
  return actingOwner === self ? ACTING : { kind: 'forward', id: actingOwner };
}

/** Finds the node that decides for a client now, also after a pause in which that may have changed. */
export class Router {
  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly membership: Membership;
      readonly gate: DecisionGate;
      /** Called first: after a pause, this node may not decide, whatever it knew. */
      readonly detectPause: (nowMs: number) => void;
    },
  ) {}

  /** Resolves when checks may be routed; `undefined` if they may be now. To be called before `route`. */
  opening(nowMs: number): Promise<void> | undefined {
    this.parts.detectPause(nowMs);
    return this.parts.gate.opening();
  }

  /** The node that decides for a client, after `opening` at the same time has said that it may be asked for. */
  route(client: Placed, nowMs: number): Route {
    return route(this.parts.membership, client, nowMs);
  }

  /** Whether this node decides for a client, as owner or as acting owner, and may do so now. */
  decides(client: Placed): boolean {
    return this.deciderOf(client) === this.parts.membership.self().id && !this.parts.gate.isClosed;
  }

  /** Whether this node owns a client, and may decide for it now. */
  owns(client: Placed): boolean {
    const nowMs = this.parts.clock.nowMs();
    return this.opening(nowMs) === undefined && this.route(client, nowMs).kind === 'own';
  }

  /** @returns the id of the node if that is another one, and is up */
  otherDecider(client: Placed): NodeId | undefined {
    const id = this.deciderOf(client);
    return id === this.parts.membership.self().id ? undefined : id;
  }

  /** @returns the id of the node, as far as this node knows now; `undefined`: none that may is up */
  deciderOf(client: Placed): NodeId | undefined {
    const { membership, clock } = this.parts;
    this.parts.detectPause(clock.nowMs());
    const to = route(membership, client);
    if (to.kind === 'forward') return to.id;
    if (to.kind === 'nobody') return undefined;
    if (to.kind === 'acting') membership.noteActing(client);
    return membership.self().id;
  }
}

const RETRY_MS = 25;
/** Attempts last this multiple of `timeoutMs`: long enough for a dead owner to be replaced. */
const PATIENCE = 3;

/** A call that only the node that decides for a key may do. It counts once, though it may be sent again. */
export interface OwnerCall<T> {
  readonly key: string;
  /** Does it on this node, which decides for the key; `undefined` if it does not any more. */
  readonly here: () => Promise<T | undefined>;
  readonly message: PeerMessage;
  /** Reads the result from an answer; `undefined` if the answerer does not decide for the key. */
  readonly outcome: (answer: PeerAnswer) => T | undefined;
}

/**
 * Asks the node that decides for the key, which may change meanwhile, until one has done it.
 * @param timeoutMs of one message; in all the call takes at most four times as long
 * @returns `undefined` if no node has done it in time, as far as this one knows
 */
export async function callOwner<T>(
  { timers, ask, router }: { timers: Timers; ask: Ask; router: Pick<Router, 'otherDecider' | 'decides'> },
  { key, here, message, outcome }: OwnerCall<T>,
  timeoutMs: number,
): Promise<T | undefined> {
  for (let waitedMs = 0; waitedMs < PATIENCE * timeoutMs; waitedMs += RETRY_MS) {
    const to = router.otherDecider(key);
    if (to === undefined) {
      const result = router.decides(key) ? await here() : undefined;
      if (result !== undefined) return result;
    } else {
      const asked = await ask(to, message, timeoutMs);
      const result = asked.kind === 'answer' ? outcome(asked.body) : undefined;
      if (result !== undefined) return result;
      if (asked.kind === 'timeout') waitedMs += timeoutMs;
    }
    await timers.sleep(RETRY_MS);
  }
  return undefined;
}

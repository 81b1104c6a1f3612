import { hasLent, remaining, resetMs, advance } from '../../core/bucket.js';
import { decide } from '../../core/decide.js';
import type { Check } from '../../core/decide.js';
import type { Decision } from '../../core/decision.js';
import type { Denials } from '../../core/denials.js';
import type { BucketDescription, ClientDescription } from '../../core/description.js';
import type { NodeId } from '../../core/ring.js';
import type { Acknowledger } from '../replication/acknowledger.js';
import { MARK } from '../state/bucket-table.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import type { Fallback } from './fallback.js';
import type { Forwarder } from '../routing/forwarder.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { Membership } from '../membership/membership.js';
import type { DecidedByPeer } from '../messages.js';
import type { Clock } from '../ports.js';
import { REQUEST_ID_TTL_MS } from '../state/recent-decisions.js';
import type { RecentDecisions } from '../state/recent-decisions.js';
import type { Replicator } from '../replication/replicator.js';
import type { Reservations } from '../state/reservations.js';
import { route } from '../routing/route.js';

/** The limiter, as the public API and the library see it. */
export interface Limiter {
  /** Decides at once where this node can, which most callers notice: only the rest is a promise. Never rejects. */
  check(check: Check): Decision | Promise<Decision>;
  /** Decides for a peer that takes this node for the one to do so; `null` when it is not. */
  checkForPeer(check: Check): DecidedByPeer | null | Promise<DecidedByPeer | null>;
  /** What this node knows of a client's consumption, consuming nothing. */
  describe(clientId: string): ClientDescription;
  /** Makes all checks wait until the returned function is called: while this node may not decide, and nobody else does. */
  hold(): () => void;
  readonly isHeld: boolean;
}

interface LimiterDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
  readonly reservations: Reservations;
  readonly membership: Membership;
  /** What lets this node decide for clients that others own: leased tokens, and denials that still hold. */
  readonly leaseHolder: LeaseHolder;
  readonly denials: Denials;
  readonly forwarder: Forwarder;
  /** Called where a check is denied while other nodes hold tokens of the client: they may be what was missing. */
  readonly pauseLending: (clientId: string) => void;
  readonly replicator: Pick<Replicator, 'changed' | 'replicateNow'>;
  /** Decides where nobody who may could be asked. */
  readonly fallback: Fallback;
  /** In strict mode: what is admitted counts only once who may decide next knows. */
  readonly acknowledger?: Acknowledger | undefined;
  /** Called with the time of each check, before it is decided: whether this node was away is found here first. */
  readonly detectPause: (nowMs: number) => void;
}

export function createLimiter(deps: LimiterDeps): Limiter {
  const { clock, table, recent, reservations, membership, leaseHolder, denials, forwarder, replicator } = deps;
  const { fallback, acknowledger, pauseLending, detectPause } = deps;
  const self = membership.self.id;
  let holds = 0;
  let held: Promise<void> | undefined;
  let letGo: () => void = () => undefined;

  function decideHere(
    check: Check,
    client: Client,
    nowMs: number,
    degraded: boolean,
  ): Decision | Promise<Decision | undefined> {
    const { clientId, requestId } = check;
    if (requestId !== undefined) {
      const first = recent.get(clientId, requestId);
      // The first time may still wait to be known, or have waited in vain.
      if (first !== undefined) return assured(check, first);
    }
    if (reservations.size > 0) reservations.observe(client, nowMs);
    const { allowed, limit, remaining, retryAfterMs, resetMs, limits, changed, forgotten } = decide(
      client,
      check,
      nowMs,
    );
    if (!allowed && hasLent(client)) pauseLending(clientId);
    if (forgotten > 0) table.forgot(forgotten);
    // Only where the ring itself says so: who stands in must look again each time.
    client.ownedAtRing = degraded ? 0 : membership.ringVersion;
    const decision: Decision = {
      allowed,
      limit,
      remaining,
      retryAfterMs,
      resetMs,
      owner: self,
      source: 'owner',
      degraded,
      limits,
    };
    const remembered = requestId !== undefined && !check.peek;
    if (remembered) {
      recent.add(clientId, requestId, decision);
      client.remembersUntilMs = Math.max(client.remembersUntilMs, nowMs + REQUEST_ID_TTL_MS);
    }
    if (check.reservation !== undefined && allowed && !check.peek) reservations.add(client, check, nowMs);
    table.close(client, nowMs);
    if (degraded) {
      table.mark(client.slot, MARK.actingOwner);
      membership.noteActing(clientId);
    }
    if (changed || remembered) replicator.changed(client);
    return check.peek ? decision : assured(check, decision);
  }

  /**
   * What is admitted, once those know it who have to before it is answered.
   * @returns in strict mode `undefined` for what could not be made known: it was charged, and is not admitted
   */
  function assured(check: Check, decision: Decision): Decision | Promise<Decision | undefined> {
    if (!decision.allowed) return decision;
    if (acknowledger !== undefined)
      return acknowledger.acknowledge(check.clientId).then((known) => (known ? decision : undefined));
    if (!check.replicated) return decision;
    return replicator
      .replicateNow([check.clientId], 'witness')
      .then((kept) => (kept.has(check.clientId) ? decision : { ...decision, degraded: true }));
  }

  function orFallback(check: Check, decided: Decision | Promise<Decision | undefined>): Decision | Promise<Decision> {
    if (!(decided instanceof Promise)) return decided;
    return decided.then((decision) => decision ?? fallback.decide(check));
  }

  async function forward(check: Check, to: NodeId, nowMs: number): Promise<Decision> {
    leaseHolder.forwarded(check, nowMs);
    const asking = denials.asking(nowMs);
    const forwarded = await forwarder.forward(check, to);
    switch (forwarded.kind) {
      case 'decided': {
        const { verdict, degraded, revocable } = forwarded.result;
        const decision: Decision = { ...verdict, owner: forwarded.by, source: 'forwarded', degraded };
        if (!verdict.allowed && !revocable) denials.remember(check, decision, asking, clock.nowMs());
        return decision;
      }
      case 'mine':
        return limiter.check(check);
      case 'unavailable':
        return fallback.decide(check);
    }
  }

  const limiter: Limiter = {
    check(check) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      if (held !== undefined) return held.then(() => limiter.check(check));
      const client = table.open(check);
      // A client found to be this node's under the present ring need not be hashed again.
      if (client.ownedAtRing === membership.ringVersion)
        return orFallback(check, decideHere(check, client, nowMs, false));
      const own = leaseHolder.spend(check, nowMs) ?? denials.recall(check, nowMs);
      if (own !== undefined) return own;
      const to = route(membership, check.clientId);
      switch (to.kind) {
        case 'mine':
          return orFallback(check, decideHere(check, client, nowMs, to.degraded));
        case 'forward':
          return forward(check, to.id, nowMs);
        case 'nobody':
          return fallback.decide(check);
      }
    },
    checkForPeer(check) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      if (held !== undefined) return held.then(() => limiter.checkForPeer(check));
      const client = table.open(check);
      let degraded = false;
      if (client.ownedAtRing !== membership.ringVersion) {
        const to = route(membership, check.clientId);
        if (to.kind !== 'mine') return null;
        ({ degraded } = to);
      }
      const decision = decideHere(check, client, nowMs, degraded);
      if (decision instanceof Promise)
        return decision.then((one) => (one === undefined ? null : asVerdict(one, false)));
      const mayComeBack = hasLent(client) || reservations.hasOpen(check.clientId);
      return asVerdict(decision, !decision.allowed && mayComeBack);
    },
    describe(clientId) {
      const nowMs = clock.nowMs();
      const buckets: BucketDescription[] = [];
      for (let bucket = table.peek(clientId)?.first; bucket !== undefined; bucket = bucket.next) {
        advance(bucket, nowMs);
        const { policy, algorithm, windowMs, limit } = bucket.rule;
        const left = remaining(bucket, bucket.rule);
        buckets.push({ policy, algorithm, windowMs, limit, remaining: left, resetMs: resetMs(bucket, nowMs) });
      }
      return { clientId, owner: self, buckets };
    },
    hold() {
      holds += 1;
      held ??= new Promise((resolve) => (letGo = resolve));
      return () => {
        holds -= 1;
        if (holds > 0) return;
        held = undefined;
        letGo();
      };
    },
    get isHeld() {
      return held !== undefined;
    },
  };
  return limiter;
}

function asVerdict(decision: Decision, revocable: boolean): DecidedByPeer {
  const { allowed, limit, remaining, retryAfterMs, resetMs, limits, degraded } = decision;
  return { verdict: { allowed, limit, remaining, retryAfterMs, resetMs, limits }, degraded, revocable };
}

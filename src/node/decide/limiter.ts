import { advance, remaining, resetMs } from '../../limits/bucket/bucket.js';
import { decisionOf, OnePlace } from '../../limits/decide/check-batch.js';
import type { CheckBatch } from '../../limits/decide/check-batch.js';
import type { Check } from '../../limits/decide/decide.js';
import type { Decision, Origin } from '../../limits/decide/decision.js';
import type { BucketDescription, ClientDescription } from '../../limits/request/description.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Membership } from '../../membership/membership.js';
import { route } from '../../membership/route.js';
import type { BucketTable } from '../../state/bucket-table.js';
import { PendingChecks } from './pending-checks.js';
import type { Deciders } from './pending-checks.js';

/** Bound of the nodes whose origins are kept: more than a ring has that forwards to all its members. */
const MAX_ORIGINS = 1_024;

/** Decides checks: here where this node may, otherwise by asking the node that may. */
export interface Limiter {
  /**
   * Decides at once where this node can; only then the result is no promise.
   * @throws TokenringError `overloaded` by rejection: too many checks wait for the owner, and nothing was charged
   */
  check(check: Check): Decision | Promise<Decision>;
  /**
   * Decides the checks of a batch from place `from` to before `to` that have no answer yet. Each node that decides some
   * of them is asked once. Never rejects.
   * @returns `undefined` when all are answered at once
   */
  checkMany(batch: CheckBatch, from: number, to: number): Promise<void> | undefined;
  /** The consumption of a client as this node knows it. Consumes nothing. */
  describe(clientId: string): ClientDescription;
  /** Makes all checks wait until the returned function is called: while this node may not decide, and no other does. */
  readonly hold: () => () => void;
  isHeld(): boolean;
}

interface LimiterDeps extends Deciders {
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly topClients: Pick<TopClients, 'count'>;
}

export function createLimiter(deps: LimiterDeps): Limiter {
  const { clock, table, membership, hold, owner, leaseHolder, denials, fallback, detectPause, topClients } = deps;

  /** @returns the node to forward to, where this one may not decide */
  function decideOrRoute(check: Check, nowMs: number, to = route(membership, check, nowMs)): Decision | NodeId {
    if (to.kind === 'mine' && !to.degraded) return owner.decide(check, table.open(check), nowMs, false);
    const own = leaseHolder.spend(check, nowMs) ?? denials.recall(check, nowMs);
    if (own !== undefined) {
      topClients.count(check, own.allowed, nowMs);
      return own;
    }
    switch (to.kind) {
      case 'mine':
        return owner.decide(check, table.open(check), nowMs, true);
      case 'forward':
        return to.id;
      case 'nobody':
        return fallback.decide(check);
    }
  }

  const origins = new Map<NodeId, { readonly owner: Origin; readonly acting: Origin }>();

  /** The same object for each decision of a node, as the answers of one origin share what is written of it. */
  function originOf(owner: NodeId, degraded: boolean): Origin {
    let both = origins.get(owner);
    if (both === undefined) {
      if (origins.size >= MAX_ORIGINS) origins.clear();
      const of = (isDegraded: boolean): Origin => ({ owner, source: 'forwarded', degraded: isDegraded });
      origins.set(owner, (both = { owner: of(false), acting: of(true) }));
    }
    return degraded ? both.acting : both.owner;
  }

  const pendingDeps = { decideOrRoute, originOf, ...deps };

  const limiter: Limiter = {
    check(check) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      const held = hold.ended();
      if (held !== undefined) return held.then(() => limiter.check(check));
      const decided = decideOrRoute(check, nowMs);
      if (typeof decided !== 'string' && !owner.mustConfirm(check, decided)) return decided;
      const place = new OnePlace(check);
      const pending = new PendingChecks(pendingDeps, place, nowMs);
      pending.add(0, decided);
      return pending.answered().then(() => decisionOf(place.answerAt()));
    },
    checkMany(batch, from, to) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      const held = hold.ended();
      if (held !== undefined) return held.then(() => limiter.checkMany(batch, from, to));
      const placed = { hashHigh: 0 };
      let pending: PendingChecks | undefined;
      for (let place = from; place < to; place += 1) {
        if (batch.isAnswered(place)) continue;
        placed.hashHigh = batch.hashHigh[place]!;
        const decider = route(membership, placed, nowMs);
        if (decider.kind === 'mine' && !decider.degraded && owner.decideUsual(batch, place, nowMs)) continue;
        const check = batch.check(place);
        const decided = decideOrRoute(check, nowMs, decider);
        if (typeof decided !== 'string' && !owner.mustConfirm(check, decided)) batch.answer(place, decided);
        else (pending ??= new PendingChecks(pendingDeps, batch, nowMs)).add(place, decided);
      }
      return pending?.answered();
    },
    describe(clientId) {
      const nowMs = clock.nowMs();
      const buckets: BucketDescription[] = [];
      for (let bucket = table.peek(clientId)?.first; bucket !== undefined; bucket = bucket.next) {
        advance(bucket, nowMs);
        const { scope, policy, algorithm, windowMs, limit } = bucket.rule;
        const left = remaining(bucket, bucket.rule);
        buckets.push({ scope, policy, algorithm, windowMs, limit, remaining: left, resetMs: resetMs(bucket, nowMs) });
      }
      return { clientId, owner: membership.self().id, buckets };
    },
    hold: hold.begin,
    isHeld: () => hold.ended() !== undefined,
  };
  return limiter;
}

import { advance, remaining, resetMs } from '../../core/bucket/bucket.js';
import { decisionOf, onePlace } from '../../core/decide/check-batch.js';
import type { Answer, CheckBatch, Origin, Places } from '../../core/decide/check-batch.js';
import type { Check } from '../../core/decide/decide.js';
import type { Decision } from '../../core/decide/decision.js';
import type { Denials } from '../../core/decide/denials.js';
import type { BucketDescription, ClientDescription } from '../../core/request/description.js';
import { TokenringError } from '../../core/error.js';
import type { NodeId } from '../../core/ring/ring.js';
import type { TopClients } from '../../core/top-clients.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { Membership } from '../membership/membership.js';
import type { DecidedByPeer } from '../messages.js';
import type { Clock } from '../ports.js';
import type { ForwardSink, Forwarded, Forwarder } from '../routing/forwarder.js';
import { route } from '../routing/route.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Fallback } from './fallback.js';
import type { Hold } from './hold.js';
import type { Owner } from './owner.js';

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

interface LimiterDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly membership: Membership;
  /** Checks wait while it lasts. */
  readonly hold: Hold;
  /** Decides for the clients of this node. */
  readonly owner: Owner;
  /** Leased tokens, and denials that still hold: with them, this node decides for clients of others. */
  readonly leaseHolder: LeaseHolder;
  readonly denials: Denials;
  readonly forwarder: Forwarder;
  /** Decides where no node that may could be asked. */
  readonly fallback: Fallback;
  /** Called with the time of each check before it is decided. It finds out whether this node has paused. */
  readonly detectPause: (nowMs: number) => void;
  readonly topClients: Pick<TopClients, 'count'>;
}

export function createLimiter(deps: LimiterDeps): Limiter {
  const { clock, table, membership, hold, owner, leaseHolder, denials, forwarder, fallback, detectPause, topClients } =
    deps;

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

  /** Completes the checks of a batch that are not decided at once. */
  function createPending(batch: Places, nowMs: number): Pending {
    const asking = denials.asking(nowMs);
    const unconfirmed: number[] = [];
    let open = 0;
    let done: () => void = () => undefined;

    function complete(place: number, answer: Answer): void {
      batch.answer(place, answer);
      close();
    }

    function close(): void {
      open -= 1;
      if (open === 0) done();
    }

    async function confirm(places: readonly number[]): Promise<void> {
      const known = await owner.confirm(places.map((place) => batch.check(place)));
      for (const place of places) {
        const check = batch.check(place);
        complete(place, owner.confirmed(check, batch.answerAt(place) as Decision, known) ?? fallback.decide(check));
      }
    }

    function forward(place: number, to: NodeId, atMs: number): void {
      const check = batch.check(place);
      leaseHolder.forwarded(check, atMs);
      forwarder.forward(check, to, atMs, sink, place);
    }

    function restart(place: number): void {
      const atMs = clock.nowMs();
      detectPause(atMs);
      const held = hold.ended();
      if (held !== undefined) return void held.then(() => restart(place));
      const check = batch.check(place);
      const decided = decideOrRoute(check, atMs);
      if (typeof decided === 'string') return forward(place, decided, atMs);
      if (!owner.mustConfirm(check, decided)) return complete(place, decided);
      batch.answer(place, decided);
      void confirm([place]);
    }

    const sink: ForwardSink = {
      forwarded(place, end) {
        if (end.kind === 'mine') return restart(place);
        if (end.kind === 'decided' && isUsual(end.result)) {
          batch.decide(place, end.result.verdict, originOf(end.by, end.result.degraded));
          return close();
        }
        complete(place, answerOf(batch.check(place), end));
      },
    };

    function answerOf(check: Check, end: Exclude<Forwarded, { kind: 'mine' }>): Answer {
      if (end.kind === 'overloaded')
        return new TokenringError('overloaded', { detail: 'too many checks wait for the owner of this client' });
      if (end.kind === 'unavailable') return fallback.decide(check);
      const { verdict, degraded, revocable, unreserved } = end.result;
      const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = verdict;
      const decision: Decision = {
        allowed,
        limit,
        remaining,
        retryAfterMs,
        resetMs,
        limits,
        owner: end.by,
        source: 'forwarded',
        degraded,
      };
      if (!allowed && !revocable) denials.remember(check, decision, asking, clock.nowMs());
      return unreserved === undefined ? decision : { ...decision, unreserved };
    }

    return {
      add(place, decided) {
        open += 1;
        if (typeof decided === 'string') return forward(place, decided, nowMs);
        batch.answer(place, decided);
        unconfirmed.push(place);
      },
      answered() {
        if (unconfirmed.length > 0) void confirm(unconfirmed);
        if (open === 0) return Promise.resolve();
        return new Promise((resolve) => (done = resolve));
      },
    };
  }

  const limiter: Limiter = {
    check(check) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      const held = hold.ended();
      if (held !== undefined) return held.then(() => limiter.check(check));
      const decided = decideOrRoute(check, nowMs);
      if (typeof decided !== 'string' && !owner.mustConfirm(check, decided)) return decided;
      const place = onePlace(check);
      const pending = createPending(place, nowMs);
      pending.add(0, decided);
      return pending.answered().then(() => decisionOf(place.answerAt(0)));
    },
    checkMany(batch, from, to) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      const held = hold.ended();
      if (held !== undefined) return held.then(() => limiter.checkMany(batch, from, to));
      const placed = { hashHigh: 0 };
      let pending: Pending | undefined;
      for (let place = from; place < to; place += 1) {
        if (batch.isAnswered(place)) continue;
        placed.hashHigh = batch.hashHigh[place]!;
        const decider = route(membership, placed, nowMs);
        if (decider.kind === 'mine' && !decider.degraded && owner.decideUsual(batch, place, nowMs)) continue;
        const check = batch.check(place);
        const decided = decideOrRoute(check, nowMs, decider);
        if (typeof decided !== 'string' && !owner.mustConfirm(check, decided)) batch.answer(place, decided);
        else (pending ??= createPending(batch, nowMs)).add(place, decided);
      }
      return pending?.answered();
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
      return { clientId, owner: membership.self().id, buckets };
    },
    hold: hold.begin,
    isHeld: () => hold.ended() !== undefined,
  };
  return limiter;
}

/** The checks of a batch that wait: for other nodes, or for a confirmation. */
interface Pending {
  /** @param decided the decision that is to be confirmed, or the node to forward to */
  add(place: number, decided: Decision | NodeId): void;
  /** Resolves when all of them have their answers; called once, after the last `add`. */
  answered(): Promise<void>;
}

/** Whether a result is an answer as it is: under one limit, and not to be remembered as a denial. */
function isUsual({ verdict, revocable, unreserved }: DecidedByPeer): boolean {
  return verdict.limits === undefined && unreserved === undefined && (verdict.allowed || revocable);
}

import { advance, remaining, resetMs } from '../../core/bucket.js';
import type { Check } from '../../core/decide.js';
import type { Decision } from '../../core/decision.js';
import type { Denials } from '../../core/denials.js';
import type { BucketDescription, ClientDescription } from '../../core/description.js';
import { TokenringError } from '../../core/error.js';
import type { NodeId } from '../../core/ring.js';
import type { TopClients } from '../../core/top-clients.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { Membership } from '../membership/membership.js';
import type { Clock } from '../ports.js';
import type { ForwardSink, Forwarded, Forwarder } from '../routing/forwarder.js';
import { route } from '../routing/route.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Fallback } from './fallback.js';
import type { Hold } from './hold.js';
import type { Owner } from './owner.js';

/** A decision, or why there is none: `overloaded`. */
export type Answer = Decision | TokenringError;

/** Decides checks: here where this node may, otherwise by asking the node that may. */
export interface Limiter {
  /**
   * Decides at once where this node can; only then the result is no promise.
   * @throws TokenringError `overloaded` by rejection: too many checks wait for the owner, and nothing was charged
   */
  check(check: Check): Decision | Promise<Decision>;
  /**
   * Decides several checks, and answers in their order. Each node that decides some of them is asked once. Never
   * rejects.
   */
  checkMany(checks: readonly Check[]): Answer[] | Promise<Answer[]>;
  /** The consumption of a client as this node knows it. Consumes nothing. */
  describe(clientId: string): ClientDescription;
  /** Makes all checks wait until the returned function is called: while this node may not decide, and no other does. */
  readonly hold: () => () => void;
  readonly isHeld: boolean;
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
  function decideOrRoute(check: Check, nowMs: number): Decision | NodeId {
    const to = route(membership, check);
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

  /** Completes the checks of one message that are not decided at once. `answers` has the others already. */
  function createPending(checks: readonly Check[], answers: Answer[], nowMs: number): Pending {
    const asking = denials.asking(nowMs);
    const unconfirmed: number[] = [];
    let open = 0;
    let done: (answers: Answer[]) => void = () => undefined;

    function complete(place: number, answer: Answer): void {
      answers[place] = answer;
      open -= 1;
      if (open === 0) done(answers);
    }

    async function confirm(places: readonly number[]): Promise<void> {
      const known = await owner.confirm(places.map((place) => checks[place]!));
      for (const place of places) {
        const check = checks[place]!;
        complete(place, owner.confirmed(check, answers[place] as Decision, known) ?? fallback.decide(check));
      }
    }

    function forward(place: number, to: NodeId, atMs: number): void {
      leaseHolder.forwarded(checks[place]!, atMs);
      forwarder.forward(checks[place]!, to, atMs, sink, place);
    }

    function restart(place: number): void {
      const atMs = clock.nowMs();
      detectPause(atMs);
      if (hold.ended !== undefined) return void hold.ended.then(() => restart(place));
      const check = checks[place]!;
      const decided = decideOrRoute(check, atMs);
      if (typeof decided === 'string') return forward(place, decided, atMs);
      if (!owner.mustConfirm(check, decided)) return complete(place, decided);
      answers[place] = decided;
      void confirm([place]);
    }

    const sink: ForwardSink = {
      forwarded(place, end) {
        if (end.kind === 'mine') return restart(place);
        complete(place, answerOf(checks[place]!, end));
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
        answers[place] = decided;
        unconfirmed.push(place);
      },
      answers() {
        if (unconfirmed.length > 0) void confirm(unconfirmed);
        if (open === 0) return Promise.resolve(answers);
        return new Promise((resolve) => (done = resolve));
      },
    };
  }

  const limiter: Limiter = {
    check(check) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      if (hold.ended !== undefined) return hold.ended.then(() => limiter.check(check));
      const decided = decideOrRoute(check, nowMs);
      if (typeof decided !== 'string' && !owner.mustConfirm(check, decided)) return decided;
      const pending = createPending([check], [], nowMs);
      pending.add(0, decided);
      return pending.answers().then(([answer]) => decisionOf(answer!));
    },
    checkMany(checks) {
      const nowMs = clock.nowMs();
      detectPause(nowMs);
      if (hold.ended !== undefined) return hold.ended.then(() => limiter.checkMany(checks));
      const answers = new Array<Answer>(checks.length);
      let pending: Pending | undefined;
      for (let place = 0; place < checks.length; place += 1) {
        const check = checks[place]!;
        const decided = decideOrRoute(check, nowMs);
        if (typeof decided !== 'string' && !owner.mustConfirm(check, decided)) answers[place] = decided;
        else (pending ??= createPending(checks, answers, nowMs)).add(place, decided);
      }
      return pending === undefined ? answers : pending.answers();
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
      return { clientId, owner: membership.self.id, buckets };
    },
    hold: hold.begin,
    get isHeld() {
      return hold.ended !== undefined;
    },
  };
  return limiter;
}

/** The checks of one message that wait: for other nodes, or for a confirmation. */
interface Pending {
  /** @param decided the decision that is to be confirmed, or the node to forward to */
  add(place: number, decided: Decision | NodeId): void;
  /** All answers of the message; called once, after the last `add`. */
  answers(): Promise<Answer[]>;
}

function decisionOf(answer: Answer): Decision {
  if (answer instanceof TokenringError) throw answer;
  return answer;
}

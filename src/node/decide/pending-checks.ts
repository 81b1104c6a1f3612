import type { Answer, Places } from '../../limits/decide/check-batch.js';
import type { Check } from '../../limits/decide/decide.js';
import { decisionBy } from '../../limits/decide/decision.js';
import type { Decision, Origin } from '../../limits/decide/decision.js';
import type { Asking, Denials } from '../../limits/decide/denials.js';
import { TokenringError } from '../../lib/error.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { DecidedByPeer } from '../../protocol/messages.js';
import type { Clock } from '../../lib/clock.js';
import type { ForwardSink, Forwarded, Forwarder } from './forwarder.js';
import type { Fallback } from './fallback.js';
import type { Hold } from './hold.js';
import type { Owner } from './owner.js';

/** The parts that decide a check, now or later. */
export interface Deciders {
  readonly clock: Clock;
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
}

interface PendingChecksDeps extends Deciders {
  /** @returns the node to forward to, where this one may not decide */
  readonly decideOrRoute: (check: Check, nowMs: number) => Decision | NodeId;
  readonly originOf: (owner: NodeId, degraded: boolean) => Origin;
}

/**
 * The checks of a batch that wait: for other nodes, or for a confirmation. It is a class because each forwarded check
 * makes one, and closures would take 0.5 kB.
 */
export class PendingChecks implements ForwardSink {
  private readonly asking: Asking;
  private unconfirmed: number[] | undefined;
  private open = 0;
  private done: (() => void) | undefined;

  constructor(
    private readonly deps: PendingChecksDeps,
    private readonly batch: Places,
    private readonly nowMs: number,
  ) {
    this.asking = deps.denials.asking(nowMs);
  }

  /** @param decided the decision that is to be confirmed, or the node to forward to */
  add(place: number, decided: Decision | NodeId): void {
    this.open += 1;
    if (typeof decided === 'string') return this.forward(place, decided, this.nowMs);
    this.batch.answer(place, decided);
    (this.unconfirmed ??= []).push(place);
  }

  /** Resolves when all of them have their answers; called once, after the last `add`. */
  answered(): Promise<void> {
    if (this.unconfirmed !== undefined) void this.confirm(this.unconfirmed);
    if (this.open === 0) return Promise.resolve();
    return new Promise((resolve) => (this.done = resolve));
  }

  forwarded(place: number, end: Forwarded): void {
    if (end.kind === 'mine') return this.restart(place);
    if (end.kind === 'decided' && isUsual(end.result)) {
      this.batch.decide(place, end.result.verdict, this.deps.originOf(end.by, end.result.degraded));
      return this.close();
    }
    this.complete(place, this.answerOf(this.batch.check(place), end));
  }

  private complete(place: number, answer: Answer): void {
    this.batch.answer(place, answer);
    this.close();
  }

  private close(): void {
    this.open -= 1;
    if (this.open === 0) this.done?.();
  }

  private async confirm(places: readonly number[]): Promise<void> {
    const { batch, deps } = this;
    const { owner, fallback } = deps;
    const known = await owner.confirm(places.map((place) => batch.check(place)));
    for (const place of places) {
      const check = batch.check(place);
      const confirmed = owner.confirmed(check, batch.answerAt(place) as Decision, known);
      this.complete(place, confirmed ?? fallback.decide(check));
    }
  }

  private forward(place: number, to: NodeId, atMs: number): void {
    const { leaseHolder, forwarder } = this.deps;
    const check = this.batch.check(place);
    leaseHolder.forwarded(check, atMs);
    forwarder.forward(check, to, atMs, this, place);
  }

  private restart(place: number): void {
    const { clock, detectPause, hold, decideOrRoute, owner } = this.deps;
    const atMs = clock.nowMs();
    detectPause(atMs);
    const held = hold.ended();
    if (held !== undefined) return void held.then(() => this.restart(place));
    const check = this.batch.check(place);
    const decided = decideOrRoute(check, atMs);
    if (typeof decided === 'string') return this.forward(place, decided, atMs);
    if (!owner.mustConfirm(check, decided)) return this.complete(place, decided);
    this.batch.answer(place, decided);
    void this.confirm([place]);
  }

  private answerOf(check: Check, end: Exclude<Forwarded, { kind: 'mine' }>): Answer {
    const { denials, fallback, clock } = this.deps;
    if (end.kind === 'overloaded')
      return new TokenringError('overloaded', { detail: 'too many checks wait for the owner of this client' });
    if (end.kind === 'unavailable') return fallback.decide(check);
    const { verdict, degraded, revocable, unreserved } = end.result;
    const decision = decisionBy(this.deps.originOf(end.by, degraded), verdict, verdict.limits);
    if (!verdict.allowed && !revocable) denials.remember(check, decision, this.asking, clock.nowMs());
    return unreserved === undefined ? decision : Object.assign({}, decision, { unreserved });
  }
}

/** Whether a result is an answer as it is: under one limit, and not to be remembered as a denial. */
function isUsual({ verdict, revocable, unreserved }: DecidedByPeer): boolean {
  return verdict.limits === undefined && unreserved === undefined && (verdict.allowed || revocable);
}

import { TokenringError } from '../../lib/error.js';
import type { Clock, Timers } from '../../lib/system.js';
import { Turns, type Steps } from '../../lib/turns.js';
import type { BatchDecider, BatchItem, CheckBatch } from '../../limits/decide/check-batch.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Membership } from '../../membership/membership.js';
import type { CheckRouter } from './check-router.js';

/** Checks of batches that one turn of the event loop decides: a few ms, also where each has several rules. */
const CHECKS_PER_TURN = 500;

/** Applies policies to the checks of callers: lists come before the check router, and shadow policies after it. */
export class CheckPipeline implements BatchDecider {
  /** Denials under shadow policies, which were not enforced, by policy. */
  readonly shadowDenials = new Map<string, number>();
  private readonly turns: Turns;
  /** Checks of batches that were decided until now. */
  private decided = 0;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly checkRouter: Pick<CheckRouter, 'decide'>;
      readonly membership: Membership;
      readonly topClients: Pick<TopClients, 'count'>;
    },
  ) {
    // Virtual time stands still while checks are decided, so a turn is bounded by their number.
    this.turns = new Turns({ timers: parts.timers, spent: () => this.decided, perTurn: CHECKS_PER_TURN });
  }

  /**
   * Decides the checks of a batch. Large batches take several turns of the event loop, with other requests in between.
   * Never rejects: an item gets the error `overloaded` if too many checks wait for its owner, and `invalid_request` if
   * it repeats one that reserved nothing. Nothing was charged then.
   * @returns `undefined` when all are decided at once
   */
  decide(batch: CheckBatch): Promise<void> | undefined {
    const { size } = batch;
    // A check alone takes no longer than the request around it, and need not wait behind batches.
    if (size === 1) return this.runSlice(batch, 0, 1);
    const { turns } = this;
    if (turns.mayWork() && size <= turns.left()) {
      this.decided += size;
      return this.runSlice(batch, 0, size);
    }
    return this.decideInTurns(batch);
  }

  private async decideInTurns(batch: CheckBatch): Promise<void> {
    const waiting: Promise<void>[] = [];
    await this.turns.runSteps('other', this.runSlices(batch, waiting));
    await Promise.all(waiting);
  }

  /** @param waiting gets what the checks of the slices wait for */
  private *runSlices(batch: CheckBatch, waiting: Promise<void>[]): Steps<void> {
    for (let from = 0; from < batch.size;) {
      if (from > 0) yield;
      const to = Math.min(batch.size, from + this.turns.left());
      this.decided += to - from;
      const later = this.runSlice(batch, from, to);
      if (later !== undefined) waiting.push(later);
      from = to;
    }
  }

  /** Runs the checks from index `from` to before `to` in this turn. */
  private runSlice(batch: CheckBatch, from: number, to: number): Promise<void> | undefined {
    const { checkRouter } = this.parts;
    if (!batch.hasTerms) return checkRouter.decide(batch, from, to);
    const open = batch.items.slice(from, to).filter((item) => !item.isAnswered && !this.answerListed(item));
    const finish = (): void => open.forEach((item) => this.applyTerms(item));
    const later = checkRouter.decide(batch, from, to);
    if (later !== undefined) return later.then(finish);
    finish();
    return undefined;
  }

  /** Answers for a client that is on a list. @returns whether it is */
  private answerListed(item: BatchItem): boolean {
    const { check } = item;
    const list = check.terms?.listed;
    if (list === undefined) return false;
    const { topClients, clock, membership } = this.parts;
    const allowed = list === 'allow';
    const { limit, capacity } = check.rules[0]!;
    topClients.count(check, allowed, clock.nowMs());
    const [remaining, retryAfterMs] = allowed ? [capacity, 0] : [0, null];
    const owner = membership.ring().owner(check) ?? membership.self().id;
    item.record(
      { allowed, limit, remaining, retryAfterMs, resetMs: 0, limits: undefined },
      { owner, source: 'owner', degraded: false },
    );
    return true;
  }

  /** Applies the reservation and the shadow policy of a check to its decision. */
  private applyTerms(item: BatchItem): void {
    const { reservation, peek, terms } = item.params;
    if (item.error === undefined && reservation !== undefined && !peek) nameReservation(item, reservation);
    if (item.error === undefined && terms?.policy?.shadow === true) this.showShadow(item, terms.policy.name);
  }

  /** Allows a check under a shadow policy, and shows what the policy decided. */
  private showShadow(item: BatchItem, policy: string): void {
    const { allowed, retryAfterMs, extras } = item;
    if (!allowed) this.shadowDenials.set(policy, (this.shadowDenials.get(policy) ?? 0) + 1);
    item.allowed = true;
    item.retryAfterMs = 0;
    item.extras = Object.assign({}, extras, { shadow: { allowed, retryAfterMs } });
  }
}

/** Names the reservation of an allowed check, or fails the check if its decision is that of one that reserved nothing. */
function nameReservation(item: BatchItem, reservation: string): void {
  if (item.extras?.unreserved === true) {
    const expected = 'a requestId that was first used with reserve';
    const detail =
      'the first request with this requestId reserved nothing, or its reservation is forgotten; use another';
    return item.fail(new TokenringError('invalid_request', { field: 'reserve', expected, detail }));
  }
  const { source } = item.provenance!;
  // No node could settle the reservation of a decision without the owner, so that decision stands.
  if (item.allowed && (source === 'owner' || source === 'forwarded')) item.extras = { reservation };
}

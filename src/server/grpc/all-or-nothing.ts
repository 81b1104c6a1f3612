import type { Settler } from '../../node/decide/settler.js';
import { CheckBatch, decideAlone, type BatchDecider } from '../../limits/decide/check-batch.js';
import { createCheck, type Check } from '../../limits/decide/check.js';
import type { Decision } from '../../limits/decide/decision.js';
import { newReservation } from '../validate/reservation.js';

/**
 * Decides checks of several clients together: if one of them is denied, none consumes anything. First all checks peek,
 * so that a denial usually costs nothing. Then they take. Where this node owns all clients, no other check comes between
 * the two, and the result is exact. Otherwise the checks take reservations, and if one is denied after all, the others
 * are settled at 0.
 */
export class AllOrNothing {
  constructor(
    private readonly limiter: BatchDecider,
    private readonly settler: Pick<Settler, 'settle'>,
  ) {}

  /** @returns the decisions, in order; the checks that a denial of another one stopped have the decision of a peek */
  decide(checks: readonly Check[]): readonly Decision[] | Promise<readonly Decision[]> {
    const peeks = this.decideEach(
      checks.map((check) => (check.peek ? check : createCheck(check, check.rules, { ...check, peek: true }))),
    );
    if (peeks instanceof Promise) return peeks.then((later) => this.take(checks, later, false));
    return this.take(checks, peeks, true);
  }

  private decideEach(checks: readonly Check[]): readonly Decision[] | Promise<readonly Decision[]> {
    const batch = CheckBatch.of(checks);
    const answers = (): Decision[] => batch.items.map(({ decision }) => decision);
    return this.limiter.decide(batch)?.then(answers) ?? answers();
  }

  private async reserve(checks: readonly Check[], peeks: readonly Decision[]): Promise<readonly Decision[]> {
    const reserving = checks.map((check) =>
      check.peek
        ? check
        : createCheck(check, check.rules, { ...check, reservation: newReservation(check.clientId, undefined) }),
    );
    const batch = CheckBatch.of(reserving);
    await this.limiter.decide(batch);
    const stands = batch.items.every(({ error, allowed }) => error === undefined && allowed);
    const settled = batch.items.map(async ({ error, extras, index }) => {
      if (error !== undefined || extras?.reservation === undefined) return;
      // A reservation that is left open keeps memory, and keeps other nodes from remembering denials of its client.
      await this.settler.settle(checks[index]!.clientId, extras.reservation, stands ? checks[index]!.cost : 0);
    });
    if (!stands) await Promise.all(settled);
    const decisions = batch.items.map(({ decision }) => decision);
    return stands ? decisions : decisions.map((decision, index) => (decision.allowed ? peeks[index]! : decision));
  }

  /** @param atOnce whether nothing else has been decided since the peeks */
  private take(
    checks: readonly Check[],
    peeks: readonly Decision[],
    atOnce: boolean,
  ): readonly Decision[] | Promise<readonly Decision[]> {
    if (peeks.some(({ allowed }) => !allowed) || checks.every(({ peek }) => peek)) return peeks;
    if (!atOnce || !isCertain(checks, peeks)) return this.reserve(checks, peeks);
    // Not as a batch, which may have to wait for a later turn of the event loop.
    const taken = checks.map((check) => decideAlone(this.limiter, check));
    const now = taken.filter((one): one is Decision => !(one instanceof Promise));
    return now.length === taken.length ? now : Promise.all(taken.map(async (one) => one));
  }
}

/** Whether the checks are certain to get the answers that their peeks just got. */
function isCertain(checks: readonly Check[], peeks: readonly Decision[]): boolean {
  const clients = new Set(checks.map(({ clientId }) => clientId));
  return (
    clients.size === checks.length &&
    checks.every(({ replicated }) => !replicated) &&
    peeks.every(({ source, degraded }) => source === 'owner' && !degraded)
  );
}

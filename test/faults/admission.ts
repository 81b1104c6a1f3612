import type { AskedClient, AskedRule } from './clients.js';
import type { Asked } from './history.js';

/** When a request was admitted: at some moment between these two. */
export interface Admission {
  readonly sentMs: number;
  readonly receivedMs: number;
}

/** What a client got beyond its limit, and the span of time in which it did. */
export interface Excess {
  readonly count: number;
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * How many more were admitted, in the worst span of time, than a rule allows: the largest number that is certain whatever
 * the moments of the decisions were. Every span that begins with a sending and ends with a receipt is tried.
 * @param grainMs what clocks in whole ms may have given to a span
 * @returns `undefined` when the rule was kept
 */
export function overAdmitted(admissions: readonly Admission[], rule: AskedRule, grainMs: number): Excess | undefined {
  const { algorithm, limit, windowMs, capacity } = rule;
  const byReceipt = [...admissions].sort((a, b) => a.receivedMs - b.receivedMs);
  let worst: Excess | undefined;
  for (const { sentMs: fromMs } of byReceipt) {
    let count = 0;
    for (const { sentMs, receivedMs } of byReceipt) {
      // Answers come in another order than questions go: only what lies wholly within the span counts.
      if (sentMs < fromMs) continue;
      const spanMs = receivedMs - fromMs + grainMs;
      if (algorithm === 'sliding-window' && spanMs >= windowMs) break;
      count += 1;
      const allowed = algorithm === 'sliding-window' ? limit : capacity + Math.floor((spanMs * limit) / windowMs);
      if (count - allowed > (worst?.count ?? 0)) worst = { count: count - allowed, fromMs, toMs: receivedMs };
    }
  }
  return worst;
}

/** For each client that got too much, the excess over whichever of its rules it exceeds most. */
export function overAdmissions(asked: readonly Asked[], clients: readonly AskedClient[]): Map<number, Excess> {
  const admissions = new Map<number, Asked[]>();
  for (const one of asked) {
    if (one.allowed !== true) continue;
    const known = admissions.get(one.client);
    if (known === undefined) admissions.set(one.client, [one]);
    else known.push(one);
  }
  const over = new Map<number, Excess>();
  for (const [client, list] of admissions) {
    // Each node that decides reads its own clock in whole ms, and rounds the start and the end of its part.
    const grainMs = new Set(list.map(({ owner }) => owner)).size;
    for (const rule of clients[client]!.rules) {
      const excess = overAdmitted(list, rule, grainMs);
      if (excess !== undefined && excess.count > (over.get(client)?.count ?? 0)) over.set(client, excess);
    }
  }
  return over;
}

export function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

import { checkAdmission } from './check-admission.js';
import type { Violation } from './checker.js';
import { ETCD } from './cuts.js';
import type { Excuses } from './excuses.js';
import type { History } from './history.js';
import { bucketsOf } from './takes.js';

/** A cut as it really went: etcd is on one of the sides, on one of its own, or on none where all reach it. */
export interface Cut {
  readonly sides: readonly (readonly string[])[];
  readonly fromMs: number;
  readonly toMs: number;
}

/** What faults justify in strict mode: nothing. */
const NONE: Excuses = { firstMs: Infinity, allowance: () => 0, mayForget: () => false, splits: [] };

/** No span of time sees more than the formula, whatever was done to the cluster. */
export function checkNoneAbove(history: History): Violation[] {
  const buckets = [...bucketsOf(history.asked, Infinity).values()];
  return buckets.flatMap((bucket) => checkAdmission(history, bucket, NONE));
}

/**
 * What was decided on two sides of a cut for one client, where the second had to come after the first: once the side with etcd
 * has decided, no other does any more; and of the others, one at most ever did.
 */
export function checkOneSide({ asked }: History, { sides, fromMs, toMs }: Cut): Violation[] {
  const sideOf = (id: string): number => sides.findIndex((side) => side.includes(id));
  const main = sides.findIndex((side) => side.includes(ETCD));
  const found: Violation[] = [];
  const told = (message: string): number => found.push({ check: 'admission', message });
  const decided = new Map<string, History['asked'][number][]>();
  for (const one of asked) {
    const { check, decision, askedMs, answeredMs } = one;
    if (decision?.allowed !== true || answeredMs === undefined || decision.source === 'lease') continue;
    if (askedMs <= fromMs || answeredMs >= toMs) continue;
    const known = decided.get(check.clientId);
    if (known === undefined) decided.set(check.clientId, [one]);
    else known.push(one);
  }
  for (const [clientId, list] of decided) {
    const there = list.filter(({ decision }) => sideOf(decision!.owner) === main);
    const elsewhere = list.filter(({ decision }) => sideOf(decision!.owner) !== main);
    const sinceMs = Math.min(Infinity, ...there.map(({ answeredMs }) => answeredMs!));
    for (const { id, askedMs } of elsewhere)
      if (askedMs >= sinceMs) told(`${clientId} #${id} was admitted elsewhere after ${sinceMs}`);
    const others = new Set(elsewhere.map(({ decision }) => sideOf(decision!.owner)));
    if (others.size > 1) told(`${clientId} was admitted on sides ${[...others].join()}`);
  }
  return found;
}

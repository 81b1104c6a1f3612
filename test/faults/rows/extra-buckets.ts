import type { AskedClient, AskedRule } from '../clients.js';

/** What one more side that decides by itself for `forMs` may admit under a rule. */
function onOneSide({ algorithm, limit, windowMs, capacity }: AskedRule, forMs: number): number {
  return algorithm === 'sliding-window' ? limit : capacity + Math.ceil((forMs * limit) / windowMs);
}

/** For each client one more bucket: no more than that is admitted over its limit when there is one side too many. */
export function extraBuckets(clients: readonly AskedClient[], forMs: number): Map<number, number> {
  return new Map(clients.map(({ rules }, i) => [i, Math.max(...rules.map((rule) => onOneSide(rule, forMs)))]));
}

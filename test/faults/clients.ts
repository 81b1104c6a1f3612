import type { Algorithm } from '../../src/limits/bucket/rule.js';

/** One limit, as a request names it and as the history is judged by. */
export interface AskedRule {
  readonly algorithm: Algorithm;
  readonly limit: number;
  readonly windowMs: number;
  readonly capacity: number;
}

export interface AskedClient {
  readonly id: string;
  readonly rules: readonly AskedRule[];
  /** How often it asks, relative to others; 0 asks only when told to. */
  readonly weight: number;
}

export const HOUR_MS = 3_600_000;

/** Clients of the load, and others that a row asks for itself. */
export const LOAD_CLIENTS = 1_000;
const SPARE_CLIENTS = 60;
export const SPARE_LIMIT = 20;

function bucket(limit: number, windowMs: number, capacity = limit): AskedRule {
  return { algorithm: 'token-bucket', limit, windowMs, capacity };
}

function sliding(limit: number, windowMs: number): AskedRule {
  return { algorithm: 'sliding-window', limit, windowMs, capacity: limit };
}

interface Kind {
  readonly clients: number;
  readonly weight: number;
  /** @param usedUp a limit that is used up at some time of the run, another time for each client */
  readonly rules: (usedUp: number) => readonly AskedRule[];
}

/** A client of weight 1 asks about 0.9 times a second at 2,100 requests a second. */
const KINDS: readonly Kind[] = [
  // Far below their limit.
  { clients: 200, weight: 1, rules: () => [bucket(100_000, HOUR_MS)] },
  // At several times their limit, all the time.
  { clients: 150, weight: 4, rules: () => [bucket(1, 1_000)] },
  { clients: 100, weight: 3, rules: () => [bucket(8, 10_000)] },
  { clients: 50, weight: 3, rules: () => [bucket(5, 10_000, 12)] },
  { clients: 100, weight: 3, rules: () => [sliding(1, 1_000)] },
  { clients: 100, weight: 2, rules: () => [sliding(5, 10_000)] },
  // Long windows, where each token that is admitted twice shows at the end.
  { clients: 150, weight: 2, rules: (usedUp) => [bucket(usedUp, HOUR_MS)] },
  { clients: 100, weight: 2, rules: (usedUp) => [sliding(usedUp, HOUR_MS)] },
  { clients: 50, weight: 2, rules: (usedUp) => [bucket(2, 1_000), bucket(usedUp, HOUR_MS)] },
];

const TOTAL_WEIGHT = KINDS.reduce((sum, { clients, weight }) => sum + clients * weight, 0);

/** @param spanMs how long the load will last, so that long limits are used up within it */
export function createClients(perSecond: number, spanMs: number): readonly AskedClient[] {
  const clients: AskedClient[] = [];
  for (const { clients: count, weight, rules } of KINDS) {
    const asked = (((weight * perSecond) / TOTAL_WEIGHT) * spanMs) / 1000;
    for (let i = 0; i < count; i += 1) {
      const usedUp = Math.max(1, Math.ceil(asked * (0.05 + (0.9 * i) / count)));
      clients.push({ id: `client-${clients.length}`, rules: rules(usedUp), weight });
    }
  }
  for (let i = 0; i < SPARE_CLIENTS; i += 1) {
    clients.push({ id: `spare-${i}`, rules: [bucket(SPARE_LIMIT, HOUR_MS)], weight: 0 });
  }
  return clients;
}

/** The body of the request in which it asks. */
export function questionOf({ id, rules }: AskedClient): string {
  const limits = rules.map(({ algorithm, limit, windowMs, capacity }) => {
    const rule = { algorithm, limit, window: windowMs };
    return algorithm === 'token-bucket' && capacity !== limit ? { ...rule, burst: capacity } : rule;
  });
  return JSON.stringify(limits.length === 1 ? { clientId: id, ...limits[0] } : { clientId: id, limits });
}

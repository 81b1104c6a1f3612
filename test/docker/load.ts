import { setTimeout as sleep } from 'node:timers/promises';
import type { Caller } from './caller.js';

/** So long that nothing worth a token flows back during a test. */
export const WINDOW = '100d';

export interface Asked {
  readonly clientId: string;
  /** By `performance.now()`, in ms. */
  readonly sentMs: number;
  readonly answeredMs: number;
  /** 200, 429, or the status of a failure; 0 where the connection broke. */
  readonly status: number;
  readonly body: string;
}

/**
 * Asks all the time while `body` runs: `workers` requests at once, for `clients` clients in turn. Retries nothing.
 * @returns all that was asked
 */
export async function underLoad(
  caller: Caller,
  { name, limit, clients, workers }: { name: string; limit: number; clients: number; workers: number },
  body: () => Promise<void>,
): Promise<readonly Asked[]> {
  const asked: Asked[] = [];
  let next = 0;
  let stopping = false;
  async function work(): Promise<void> {
    while (!stopping) {
      const clientId = `${name}-${next % clients}`;
      next += 1;
      const sentMs = performance.now();
      const { status, body } = await caller.call('POST', '/v1/allow', { clientId, limit, window: WINDOW });
      asked.push({ clientId, sentMs, answeredMs: performance.now(), status, body });
      // Leaves the machine some time for the engine, and for the nodes' heartbeats.
      await sleep(10);
    }
  }
  const working = Array.from({ length: workers }, work);
  try {
    await body();
  } finally {
    stopping = true;
    await Promise.all(working);
  }
  return asked;
}

export function failures(asked: readonly Asked[]): readonly Asked[] {
  return asked.filter(({ status }) => status !== 200 && status !== 429);
}

/** How many requests of each client were admitted beyond the limit, summed up. */
export function admittedOver(asked: readonly Asked[], limit: number): number {
  const admitted = new Map<string, number>();
  for (const { clientId, status } of asked) {
    if (status === 200) admitted.set(clientId, (admitted.get(clientId) ?? 0) + 1);
  }
  return [...admitted.values()].reduce((over, count) => over + Math.max(0, count - limit), 0);
}

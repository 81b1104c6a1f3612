import { LRUCache } from 'lru-cache';
import type { Decision } from './decision.js';
import type { Clock } from './ports.js';

/** How long a request id is remembered. */
export const REQUEST_ID_TTL_MS = 60_000;

/** The first decision on each request id, for 60 s. At the bound the oldest is forgotten: its repeat would be charged again. */
export interface RecentDecisions {
  get(clientId: string, requestId: string): Decision | undefined;
  add(clientId: string, requestId: string, decision: Decision): void;
  /** Forgets every id. */
  clear(): void;
  readonly size: number;
}

export function createRecentDecisions(deps: { clock: Clock }, options: { max: number }): RecentDecisions {
  const decisions = new LRUCache<string, Decision>({
    max: options.max,
    ttl: REQUEST_ID_TTL_MS,
    // 0: read our clock each time; anything else would start a timer of its own.
    ttlResolution: 0,
    perf: { now: () => deps.clock.nowMs() + 1 },
  });
  // The length keeps ("a", "bc") and ("ab", "c") apart.
  const key = (clientId: string, requestId: string): string => `${clientId.length}:${clientId}${requestId}`;
  return {
    get: (clientId, requestId) => decisions.get(key(clientId, requestId)),
    add: (clientId, requestId, decision) => decisions.set(key(clientId, requestId), decision),
    clear: () => decisions.clear(),
    get size() {
      return decisions.size;
    },
  };
}

import { clientEntryKey } from './client-entry-key.js';
import { LRUCache } from 'lru-cache';
import type { Decision } from '../../core/decision.js';
import { rememberedDecisionBytes } from '../../core/heap-bytes.js';
import type { Clock } from '../ports.js';

/** How long a request id is remembered. */
export const REQUEST_ID_TTL_MS = 60_000;

interface RecentDecision {
  readonly requestId: string;
  readonly ageMs: number;
  readonly decision: Decision;
}

/**
 * Keeps the first decision on each request id for 60 s. At the bound, it forgets the oldest decision. A repeat of that
 * request would be charged again.
 */
export interface RecentDecisions {
  get(clientId: string, requestId: string): Decision | undefined;
  /** @param ageMs ms since the decision, if another node made it */
  add(clientId: string, requestId: string, decision: Decision, ageMs?: number): void;
  /** Returns the latest decisions on a client, at most `max` and none older than `maxAgeMs`. */
  of(clientId: string, max: number, maxAgeMs: number): readonly RecentDecision[];
  forget(clientId: string): void;
  readonly size: number;
}

interface Remembered {
  readonly clientId: string;
  readonly requestId: string;
  readonly decision: Decision;
  readonly atMs: number;
}

export function createRecentDecisions({ clock }: { clock: Clock }, options: { maxBytes: number }): RecentDecisions {
  /** Request ids by client, in the order in which they came. */
  const ids = new Map<string, Set<string>>();
  const decisions = new LRUCache<string, Remembered>({
    maxSize: options.maxBytes,
    // 0 reads our clock each time. Any other value starts a timer.
    ttlResolution: 0,
    perf: { now: () => clock.nowMs() + 1 },
    dispose({ clientId, requestId }, _key, reason) {
      if (reason === 'set') return;
      const ofClient = ids.get(clientId);
      ofClient?.delete(requestId);
      if (ofClient?.size === 0) ids.delete(clientId);
    },
  });
  return {
    get: (clientId, requestId) => decisions.get(clientEntryKey(clientId, requestId))?.decision,
    add(clientId, requestId, decision, ageMs = 0) {
      if (ageMs >= REQUEST_ID_TTL_MS) return;
      const remembered = { clientId, requestId, decision, atMs: clock.nowMs() - ageMs };
      const size = rememberedDecisionBytes(clientId, requestId, decision);
      decisions.set(clientEntryKey(clientId, requestId), remembered, { ttl: REQUEST_ID_TTL_MS - ageMs, size });
      const ofClient = ids.get(clientId);
      if (ofClient === undefined) ids.set(clientId, new Set([requestId]));
      else ofClient.add(requestId);
    },
    of(clientId, max, maxAgeMs) {
      const ofClient = ids.get(clientId);
      if (ofClient === undefined) return [];
      const latest: RecentDecision[] = [];
      for (const requestId of [...ofClient].slice(-max)) {
        const remembered = decisions.peek(clientEntryKey(clientId, requestId));
        if (remembered === undefined) continue;
        const ageMs = clock.nowMs() - remembered.atMs;
        if (ageMs <= maxAgeMs) latest.push({ requestId, ageMs, decision: remembered.decision });
      }
      return latest;
    },
    forget(clientId) {
      for (const requestId of [...(ids.get(clientId) ?? [])]) decisions.delete(clientEntryKey(clientId, requestId));
    },
    get size() {
      return decisions.size;
    },
  };
}

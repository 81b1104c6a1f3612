import { clientEntryKey } from './client-entry-key.js';
import type { Decision } from '../../core/decide/decision.js';
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

/** A decision, between its neighbours in two lists: of all decisions, and of those on its client. */
interface Remembered {
  readonly key: string;
  readonly clientId: string;
  readonly requestId: string;
  readonly decision: Decision;
  readonly atMs: number;
  readonly bytes: number;
  before: Remembered | undefined;
  after: Remembered | undefined;
  earlier: Remembered | undefined;
  later: Remembered | undefined;
}

/**
 * Creates the memory of request ids. Both lists are in the order in which the decisions came. An `lru-cache` with sizes
 * and times, beside a set of ids for each client, took several times as long: clients of the SDK bring an id with every
 * question.
 */
export function createRecentDecisions(
  { clock }: { clock: Clock },
  { maxBytes }: { maxBytes: number },
): RecentDecisions {
  const decisions = new Map<string, Remembered>();
  /** The last decision on each client. */
  const latest = new Map<string, Remembered>();
  let oldest: Remembered | undefined;
  let newest: Remembered | undefined;
  let bytes = 0;

  function remove(one: Remembered): void {
    const { key, clientId, before, after, earlier, later } = one;
    decisions.delete(key);
    bytes -= one.bytes;
    if (before === undefined) oldest = after;
    else before.after = after;
    if (after === undefined) newest = before;
    else after.before = before;
    if (earlier !== undefined) earlier.later = later;
    if (later !== undefined) later.earlier = earlier;
    else if (earlier !== undefined) latest.set(clientId, earlier);
    else latest.delete(clientId);
  }

  function isOver({ atMs }: Remembered, nowMs: number): boolean {
    return nowMs - atMs > REQUEST_ID_TTL_MS;
  }

  return {
    get(clientId, requestId) {
      if (decisions.size === 0) return undefined;
      const one = decisions.get(clientEntryKey(clientId, requestId));
      if (one === undefined) return undefined;
      if (!isOver(one, clock.nowMs())) return one.decision;
      remove(one);
      return undefined;
    },
    add(clientId, requestId, decision, ageMs = 0) {
      if (ageMs >= REQUEST_ID_TTL_MS) return;
      const nowMs = clock.nowMs();
      const size = rememberedDecisionBytes(clientId, requestId, decision);
      if (size > maxBytes) return;
      const key = clientEntryKey(clientId, requestId);
      const known = decisions.get(key);
      if (known !== undefined) remove(known);
      while (oldest !== undefined && (bytes + size > maxBytes || isOver(oldest, nowMs))) remove(oldest);
      const earlier = latest.get(clientId);
      const atMs = nowMs - ageMs;
      const one: Remembered = {
        key,
        clientId,
        requestId,
        decision,
        atMs,
        bytes: size,
        before: newest,
        after: undefined,
        earlier,
        later: undefined,
      };
      decisions.set(key, one);
      latest.set(clientId, one);
      if (earlier !== undefined) earlier.later = one;
      if (newest === undefined) oldest = one;
      else newest.after = one;
      newest = one;
      bytes += size;
    },
    of(clientId, max, maxAgeMs) {
      const nowMs = clock.nowMs();
      const found: RecentDecision[] = [];
      let one = latest.get(clientId);
      for (let looked = 0; one !== undefined && looked < max; looked += 1, one = one.earlier) {
        const ageMs = nowMs - one.atMs;
        if (ageMs <= maxAgeMs && ageMs <= REQUEST_ID_TTL_MS)
          found.push({ requestId: one.requestId, ageMs, decision: one.decision });
      }
      return found.reverse();
    },
    forget(clientId) {
      for (let one = latest.get(clientId); one !== undefined; one = latest.get(clientId)) remove(one);
    },
    get size() {
      return decisions.size;
    },
  };
}

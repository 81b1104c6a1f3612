import type { DecidedByPeer } from '../messages.js';
import type { LimitStats, Verdict } from '../../limits/decide/decide.js';
import { MAX_RULES } from '../../limits/bucket/rule.js';
import { malformed } from '../../lib/byte-reader.js';
import { readFlag, readList } from './wire.js';
import {
  encodeAlgorithm,
  readAlgorithm,
  readLimit,
  readRemaining,
  readRetryAfterMs,
  readWaitMs,
  readWindowMs,
} from './rules.js';

/** The first number of a result, which determines the numbers that follow. */
const NOT_MINE = 0;
const ALLOWED = 1;
const DENIED = 2;
/** Added to `ALLOWED` or `DENIED`. */
const DEGRADED = 2;
/** Denied and revocable. An acting owner does not send it. */
const REVOCABLE = 5;

/** Largest number of values of one result. */
const LONGEST = 5;
const MAX_RESULTS = 16_384;

/**
 * Encodes results as a flat list of numbers:
 *
 *     0                                             the receiver does not decide for this client
 *     1, limit, remaining, resetMs                  allowed; 3 when degraded
 *     2, limit, remaining, resetMs, retryAfterMs    denied; 4 when degraded, 5 when revocable
 *
 * A result under several limits is a list: allowed, degraded (2 when revocable), limit, remaining, resetMs,
 * retryAfterMs, and the numbers of each limit.
 */
export function encodeResults(results: readonly (DecidedByPeer | null)[]): unknown[] {
  const wire: unknown[] = [];
  for (const result of results) {
    if (result === null) {
      wire.push(NOT_MINE);
      continue;
    }
    const { degraded, revocable } = result;
    const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = result.verdict;
    if (limits !== undefined) {
      const stats = limits.map(encodeLimitStats);
      wire.push([Number(allowed), revocable ? 2 : Number(degraded), limit, remaining, resetMs, retryAfterMs, stats]);
    } else if (allowed) {
      wire.push(degraded ? ALLOWED + DEGRADED : ALLOWED, limit, remaining, resetMs);
    } else {
      const kind = revocable ? REVOCABLE : degraded ? DENIED + DEGRADED : DENIED;
      wire.push(kind, limit, remaining, resetMs, retryAfterMs);
    }
  }
  return wire;
}

/** @throws MalformedMessage */
export function readResults(value: unknown): readonly (DecidedByPeer | null)[] {
  const wire = readList(value, 0, LONGEST * MAX_RESULTS, 'results');
  const results: (DecidedByPeer | null)[] = [];
  for (let i = 0; i < wire.length;) {
    const first = wire[i];
    if (first === NOT_MINE) {
      results.push(null);
      i += 1;
    } else if (Array.isArray(first)) {
      results.push(readFull(first));
      i += 1;
    } else {
      const degraded = first === ALLOWED + DEGRADED || first === DENIED + DEGRADED;
      const allowed = first === ALLOWED || first === ALLOWED + DEGRADED;
      const revocable = first === REVOCABLE;
      if (!allowed && !revocable && first !== DENIED && first !== DENIED + DEGRADED) {
        throw malformed('result', '0 to 5, or a list');
      }
      const verdict: Verdict = {
        allowed,
        limit: readLimit(wire[i + 1]),
        remaining: readRemaining(wire[i + 2]),
        retryAfterMs: allowed ? 0 : readRetryAfterMs(wire[i + 4]),
        resetMs: readWaitMs(wire[i + 3]),
        limits: undefined,
      };
      results.push({ verdict, degraded, revocable });
      i += allowed ? 4 : 5;
    }
  }
  if (results.length > MAX_RESULTS) throw malformed('results', `at most ${MAX_RESULTS}`);
  return results;
}

function readFull(value: unknown): DecidedByPeer {
  const wire = readList(value, 7, 7, 'result');
  const verdict: Verdict = {
    allowed: readFlag(wire[0], 'allowed'),
    limit: readLimit(wire[2]),
    remaining: readRemaining(wire[3]),
    retryAfterMs: readRetryAfterMs(wire[5]),
    resetMs: readWaitMs(wire[4]),
    limits: readList(wire[6], 1, MAX_RULES, 'limits').map(readLimitStats),
  };
  if (verdict.allowed && verdict.retryAfterMs !== 0) throw malformed('wait', '0 when allowed');
  if (wire[1] === 2 && !verdict.allowed) return { verdict, degraded: false, revocable: true };
  return { verdict, degraded: readFlag(wire[1], 'degraded'), revocable: false };
}

function encodeLimitStats({ algorithm, windowMs, limit, remaining, retryAfterMs, resetMs }: LimitStats): unknown[] {
  return [encodeAlgorithm(algorithm), windowMs, limit, remaining, retryAfterMs, resetMs];
}

function readLimitStats(value: unknown): LimitStats {
  const wire = readList(value, 6, 6, 'limit stats');
  return {
    algorithm: readAlgorithm(wire[0]),
    windowMs: readWindowMs(wire[1]),
    limit: readLimit(wire[2]),
    remaining: readRemaining(wire[3]),
    retryAfterMs: readRetryAfterMs(wire[4]),
    resetMs: readWaitMs(wire[5]),
  };
}

import type { CheckResult, DecidedByPeer } from '../../messages.js';
import type { LimitStats, Verdict } from '../../../limits/decide/decide.js';
import { MAX_LIMIT, MAX_RULES, MAX_WINDOW_MS } from '../../../limits/bucket/rule.js';
import { MAX_WAIT_MS } from '../rules.js';
import { malformed } from '../../../lib/byte-reader.js';
import type { ByteReader } from '../../../lib/byte-reader.js';
import type { ByteWriter } from '../../../lib/byte-writer.js';

const MAX_RESULTS = 16_384;

/** Flags of a result. Without `DECIDED`, the receiver does not decide for this client, and nothing follows. */
const DECIDED = 1;
const ALLOWED = 2;
const DEGRADED = 4;
const REVOCABLE = 8;
/** Flag of a denial that no wait ends. */
const NEVER = 16;
const SEVERAL_LIMITS = 32;
/** Flag of the repeat of a check that reserved nothing. */
const UNRESERVED = 64;
const ALL_FLAGS = 127;
/** Stands alone: too many checks wait at the receiver, and nothing was charged. */
const OVERLOADED = 128;

/** Flag of one of several limits. `NEVER` has its meaning from above. */
const SLIDING_WINDOW = 1;

/**
 * Writes results. Each is flags, limit, remaining, and `resetMs`, and for a denial `retryAfterMs`. If there are several
 * limits, their number follows, and then flags, window, limit, remaining, `resetMs`, and `retryAfterMs` of each.
 */
export function writeResults(out: ByteWriter, results: readonly CheckResult[]): void {
  out.whole(results.length);
  for (const result of results) {
    if (result === null) out.byte(0);
    else if (result === 'overloaded') out.byte(OVERLOADED);
    else writeResult(out, result);
  }
}

export function writeResult(out: ByteWriter, { verdict, degraded, revocable, unreserved }: DecidedByPeer): void {
  const { allowed, retryAfterMs, limits } = verdict;
  out.byte(
    DECIDED |
      (allowed ? ALLOWED : 0) |
      (degraded ? DEGRADED : 0) |
      (revocable ? REVOCABLE : 0) |
      (retryAfterMs === null ? NEVER : 0) |
      (unreserved === true ? UNRESERVED : 0) |
      (limits === undefined ? 0 : SEVERAL_LIMITS),
  );
  out.whole(verdict.limit);
  out.whole(verdict.remaining);
  out.whole(verdict.resetMs);
  if (!allowed && retryAfterMs !== null) out.whole(retryAfterMs);
  if (limits === undefined) return;
  out.byte(limits.length);
  for (const stats of limits) writeStats(out, stats);
}

function writeStats(out: ByteWriter, stats: LimitStats): void {
  const { algorithm, retryAfterMs } = stats;
  out.byte((algorithm === 'sliding-window' ? SLIDING_WINDOW : 0) | (retryAfterMs === null ? NEVER : 0));
  out.whole(stats.windowMs);
  out.whole(stats.limit);
  out.whole(stats.remaining);
  out.whole(stats.resetMs);
  if (retryAfterMs !== null) out.whole(retryAfterMs);
}

/** @throws MalformedMessage */
export function readResults(from: ByteReader): readonly CheckResult[] {
  const count = from.whole(0, MAX_RESULTS, 'number of results');
  const results: CheckResult[] = [];
  while (results.length < count) results.push(readResult(from));
  return results;
}

export function readResult(from: ByteReader): CheckResult {
  const flags = from.byte('flags of a result');
  if (flags === 0) return null;
  if (flags === OVERLOADED) return 'overloaded';
  if ((flags & DECIDED) === 0 || flags > ALL_FLAGS)
    throw malformed('flags of a result', `0, ${OVERLOADED}, or odd to ${ALL_FLAGS}`);
  const allowed = (flags & ALLOWED) !== 0;
  const degraded = (flags & DEGRADED) !== 0;
  const revocable = (flags & REVOCABLE) !== 0;
  const never = (flags & NEVER) !== 0;
  if (allowed && never) throw malformed('wait', '0 when allowed');
  const unreserved = (flags & UNRESERVED) !== 0;
  if (unreserved && !allowed) throw malformed('unreserved', 'a repeat that is allowed');
  if (revocable && (allowed || degraded)) throw malformed('revocable', 'a denial by the owner');
  const limit = from.whole(0, MAX_LIMIT, 'limit');
  const remaining = from.whole(0, MAX_LIMIT, 'remaining');
  const resetMs = from.whole(0, MAX_WAIT_MS, 'wait');
  const retryAfterMs = allowed ? 0 : never ? null : from.whole(0, MAX_WAIT_MS, 'wait');
  const limits = (flags & SEVERAL_LIMITS) === 0 ? undefined : readLimits(from);
  const verdict: Verdict = { allowed, limit, remaining, retryAfterMs, resetMs, limits };
  return unreserved ? { verdict, degraded, revocable, unreserved } : { verdict, degraded, revocable };
}

function readLimits(from: ByteReader): LimitStats[] {
  const count = from.whole(1, MAX_RULES, 'number of limits');
  const limits: LimitStats[] = [];
  while (limits.length < count) limits.push(readStats(from));
  return limits;
}

function readStats(from: ByteReader): LimitStats {
  const flags = from.byte('flags of a limit');
  if ((flags & ~(SLIDING_WINDOW | NEVER)) !== 0) throw malformed('flags of a limit', '0, 1, 16 or 17');
  const algorithm = (flags & SLIDING_WINDOW) === 0 ? 'token-bucket' : 'sliding-window';
  const windowMs = from.whole(1, MAX_WINDOW_MS, 'window');
  const limit = from.whole(0, MAX_LIMIT, 'limit');
  const remaining = from.whole(0, MAX_LIMIT, 'remaining');
  const resetMs = from.whole(0, MAX_WAIT_MS, 'wait');
  const retryAfterMs = (flags & NEVER) === 0 ? from.whole(0, MAX_WAIT_MS, 'wait') : null;
  // In the order of core, so that all stats have one shape.
  return { algorithm, windowMs, limit, remaining, retryAfterMs, resetMs };
}

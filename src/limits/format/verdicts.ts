import { malformed, type ByteReader } from '../../lib/byte-reader.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import { MAX_LIMIT, MAX_RULES, MAX_WINDOW_MS } from '../bucket/rule.js';
import type { LimitStats, Verdict } from '../decide/decide.js';

/** Bound of a wait; the longest is 1e9 tokens at one per 366 days. It is beyond 2^53, where every double is whole. */
export const MAX_WAIT_MS = 2 * MAX_LIMIT * MAX_WINDOW_MS;

/** Flags of a verdict. The callers have the other bits for flags of their own. */
export const ALLOWED = 1;
/** Flag of a denial that no wait ends. */
const NEVER = 2;
const SEVERAL_LIMITS = 4;
export const VERDICT_FLAGS = ALLOWED | NEVER | SEVERAL_LIMITS;

/** Flag of one of several limits. `NEVER` has its meaning from above. */
const SLIDING_WINDOW = 1;

type WrittenVerdict = Omit<Verdict, 'limits'> & Partial<Pick<Verdict, 'limits'>>;

/**
 * Writes flags, limit, remaining, and `resetMs`, and for a denial `retryAfterMs`. If there are several limits, their
 * number follows, and then flags, window, limit, remaining, `resetMs`, and `retryAfterMs` of each.
 * @param more flags of the caller
 */
export function writeVerdict(out: ByteWriter, verdict: WrittenVerdict, more: number): void {
  const { allowed, retryAfterMs, limits } = verdict;
  out.byte(
    more | (allowed ? ALLOWED : 0) | (retryAfterMs === null ? NEVER : 0) | (limits === undefined ? 0 : SEVERAL_LIMITS),
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

/** Reads a verdict behind its flags. @throws MalformedMessage */
export function readVerdict(from: ByteReader, flags: number): Verdict {
  const allowed = (flags & ALLOWED) !== 0;
  const never = (flags & NEVER) !== 0;
  if (allowed && never) throw malformed('wait', '0 when allowed');
  const limit = from.whole(0, MAX_LIMIT, 'limit');
  const remaining = from.whole(0, MAX_LIMIT, 'remaining');
  const resetMs = from.whole(0, MAX_WAIT_MS, 'wait');
  const retryAfterMs = allowed ? 0 : never ? null : from.whole(0, MAX_WAIT_MS, 'wait');
  const limits = (flags & SEVERAL_LIMITS) === 0 ? undefined : readLimits(from);
  return { allowed, limit, remaining, retryAfterMs, resetMs, limits };
}

function readLimits(from: ByteReader): LimitStats[] {
  const count = from.whole(1, MAX_RULES, 'number of limits');
  const limits: LimitStats[] = [];
  while (limits.length < count) limits.push(readStats(from));
  return limits;
}

function readStats(from: ByteReader): LimitStats {
  const flags = from.flags(SLIDING_WINDOW | NEVER, 'flags of a limit');
  const algorithm = (flags & SLIDING_WINDOW) === 0 ? 'token-bucket' : 'sliding-window';
  const windowMs = from.whole(1, MAX_WINDOW_MS, 'window');
  const limit = from.whole(0, MAX_LIMIT, 'limit');
  const remaining = from.whole(0, MAX_LIMIT, 'remaining');
  const resetMs = from.whole(0, MAX_WAIT_MS, 'wait');
  const retryAfterMs = (flags & NEVER) === 0 ? from.whole(0, MAX_WAIT_MS, 'wait') : null;
  // In the order of `LimitStats`, so that all stats have one shape.
  return { algorithm, windowMs, limit, remaining, retryAfterMs, resetMs };
}

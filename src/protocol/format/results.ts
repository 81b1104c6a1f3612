import { malformed, type ByteReader } from '../../lib/byte-reader.js';
import { ALLOWED, readVerdict, VERDICT_FLAGS, writeVerdict } from '../../limits/format/verdicts.js';
import type { CheckResult } from '../messages.js';
import { list, type Codec } from './codec.js';

const MAX_RESULTS = 16_384;

/** Flags of a result beside those of its verdict. Without `DECIDED`, the receiver does not decide for this client. */
const DECIDED = 8;
const DEGRADED = 16;
const REVOCABLE = 32;
/** Flag of the repeat of a check that reserved nothing. */
const UNRESERVED = 64;
const ALL_FLAGS = VERDICT_FLAGS | DECIDED | DEGRADED | REVOCABLE | UNRESERVED;
/** Stands alone: too many checks wait at the receiver, and nothing was charged. */
const OVERLOADED = 128;

/** A verdict with flags, or one byte where there is none. */
const result: Codec<CheckResult> = {
  write(out, value) {
    if (value === 'not-mine') return out.byte(0);
    if (value === 'overloaded') return out.byte(OVERLOADED);
    const { verdict, degraded, revocable, unreserved } = value;
    const flags = (degraded ? DEGRADED : 0) | (revocable ? REVOCABLE : 0) | (unreserved === true ? UNRESERVED : 0);
    writeVerdict(out, verdict, DECIDED | flags);
  },
  read(from) {
    const flags = from.byte('flags of a result');
    if (flags === 0) return 'not-mine';
    if (flags === OVERLOADED) return 'overloaded';
    return readDecided(from, flags);
  },
};

function readDecided(from: ByteReader, flags: number): CheckResult {
  if ((flags & DECIDED) === 0 || flags > ALL_FLAGS) throw malformed('flags of a result', 'a known combination');
  const allowed = (flags & ALLOWED) !== 0;
  const degraded = (flags & DEGRADED) !== 0;
  const revocable = (flags & REVOCABLE) !== 0;
  const unreserved = (flags & UNRESERVED) !== 0;
  if (unreserved && !allowed) throw malformed('unreserved', 'a repeat that is allowed');
  if (revocable && (allowed || degraded)) throw malformed('revocable', 'a denial by the owner');
  const verdict = readVerdict(from, flags);
  return unreserved ? { verdict, degraded, revocable, unreserved } : { verdict, degraded, revocable };
}

export const results = list(result, MAX_RESULTS, 'results');

import type { LimitStats } from '../../limits/decide/decide.js';
import { SOURCES, type Decision, type Settlement } from '../../limits/decide/decision.js';
import type { ClientDescription } from '../../limits/request/description.js';
import { isOrigin } from '../../limits/origin.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { knownCode, TokenringError } from '../../lib/error.js';

/** Checks answers of nodes before they are used. Each function returns `undefined` for a value of another form. */

interface MemberView {
  readonly id: NodeId;
  readonly url: string | undefined;
}

/** The members of the ring, as one node sees them. */
export interface ClusterView {
  readonly self: NodeId;
  readonly ringChecksum: string;
  readonly members: readonly MemberView[];
}

/** Bound of members. No cluster has so many, and a ring of them takes seconds to build. */
const MAX_MEMBERS = 1_024;
const MAX_ID_CHARS = 300;

export function readCluster(value: unknown): ClusterView | undefined {
  const { self, ringChecksum, members } = fieldsOf(value);
  if (typeof self !== 'string' || typeof ringChecksum !== 'string' || !Array.isArray(members)) return undefined;
  // A member without a share is not in the ring.
  const inRing = members.filter((one) => (fieldsOf(one)['share'] as number) > 0).map(fieldsOf);
  if (inRing.length > MAX_MEMBERS) return undefined;
  const views: MemberView[] = [];
  for (const { id, url } of inRing) {
    if (typeof id !== 'string' || id === '' || id.length > MAX_ID_CHARS) return undefined;
    views.push({ id, url: typeof url === 'string' && isOrigin(url) ? new URL(url).origin : undefined });
  }
  return { self, ringChecksum, members: views };
}

export function readDecision(value: unknown): Decision | undefined {
  const { allowed, limit, remaining, retryAfterMs, resetMs, owner, source, degraded, limits, reservation, shadow } =
    fieldsOf(value);
  if (typeof allowed !== 'boolean' || typeof degraded !== 'boolean' || typeof owner !== 'string') return undefined;
  if (!isCount(limit) || !isCount(remaining) || !isCount(resetMs) || !isWait(retryAfterMs)) return undefined;
  if (!KNOWN_SOURCES.has(source)) return undefined;
  if (limits !== undefined && !(Array.isArray(limits) && limits.every(isLimitStats))) return undefined;
  if (reservation !== undefined && typeof reservation !== 'string') return undefined;
  if (shadow !== undefined && !isShadow(shadow)) return undefined;
  // This is the parsed object itself, as copies would be most of the garbage of a busy client.
  return value as Decision;
}

const KNOWN_SOURCES: ReadonlySet<unknown> = new Set(SOURCES);

function isShadow(value: unknown): value is Decision['shadow'] {
  const { allowed, retryAfterMs } = fieldsOf(value);
  return typeof allowed === 'boolean' && isWait(retryAfterMs);
}

export function readSettlement(value: unknown): Settlement | undefined {
  const { cost, reserved, limit, remaining, resetMs } = fieldsOf(value);
  if (![cost, reserved, limit, remaining, resetMs].every(isCount)) return undefined;
  return { cost, reserved, limit, remaining, resetMs } as Settlement;
}

export function readDescription(value: unknown): ClientDescription | undefined {
  const { clientId, owner, buckets } = fieldsOf(value);
  if (typeof clientId !== 'string' || typeof owner !== 'string' || !Array.isArray(buckets)) return undefined;
  const isBucket = (one: unknown): boolean => {
    const { windowMs, limit, remaining, resetMs } = fieldsOf(one);
    return [windowMs, limit, remaining, resetMs].every(isCount);
  };
  return buckets.every(isBucket) ? (value as ClientDescription) : undefined;
}

/** Reads the answer to a write, which only confirms it. */
export function readNothing(value: unknown): true | undefined {
  return value === undefined ? true : undefined;
}

/**
 * The fraction of an adaptive policy's limits that is in force, and the load that the nodes derived from the report.
 */
export interface LoadAnswer {
  readonly factor: number;
  readonly load: number;
}

export function readLoad(value: unknown): LoadAnswer | undefined {
  const { factor, load } = fieldsOf(value);
  return typeof factor === 'number' && typeof load === 'number' ? { factor, load } : undefined;
}

/** Longest text of a problem that an error repeats, in characters. Callers log errors, and any program may answer. */
const MAX_PROBLEM_CHARS = 500;

/** Reads a problem (RFC 9457) as an error. */
export function readProblem(value: unknown): TokenringError | undefined {
  const { code: given, status, detail, field, expected } = fieldsOf(value);
  if (typeof given !== 'string' || typeof status !== 'number' || !(status >= 400 && status <= 599)) return undefined;
  const text = (one: unknown): string | undefined =>
    typeof one === 'string' ? one.slice(0, MAX_PROBLEM_CHARS) : undefined;
  const code = given.slice(0, MAX_PROBLEM_CHARS);
  const known = knownCode(code);
  return new TokenringError(known, {
    status,
    field: text(field),
    expected: text(expected),
    detail: known === 'unknown_error' ? [code, text(detail)].filter(Boolean).join(': ') : text(detail),
  });
}

/** Returns the fields of an object; none for any other value. */
export function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Infinity;
}

function isWait(value: unknown): value is number | null {
  return value === null || isCount(value);
}

function isLimitStats(value: unknown): value is LimitStats {
  const { algorithm, windowMs, limit, remaining, retryAfterMs, resetMs } = fieldsOf(value);
  const known = algorithm === 'token-bucket' || algorithm === 'sliding-window';
  return known && [windowMs, limit, remaining, resetMs].every(isCount) && isWait(retryAfterMs);
}

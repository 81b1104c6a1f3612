import { parseDuration } from './duration.js';
import { takesWindow } from './policy.js';
import type { LimitsText, LimitText, PolicyText } from './policy.js';
import { MAX_LIMIT, MAX_RULES, MAX_WINDOW_MS } from './rule.js';

/** One mistake: where, and what was expected there. */
export interface Mistake {
  /** As in `policies.api.limits[1].window`. */
  readonly field: string;
  readonly expected: string;
}

export const MAX_POLICIES = 1_000;
const MAX_TIERS = 32;
export const MAX_CLIENT_ID_BYTES = 256;
/** No text that people give: it goes into headers and metrics as it is. */
const NAME = /^[A-Za-z0-9_][\w.:-]{0,127}$/;
export const EXPECTED_NAME = 'letters, digits, "_", ".", ":" and "-", at most 128 of them';
const EXPECTED_WINDOW = 'whole milliseconds or "250ms", "10s", "1m", "1h", "1d", from 1 ms to 366 d';

type Fields = Readonly<Record<string, unknown>>;

export function isPolicyName(value: unknown): boolean {
  return typeof value === 'string' && NAME.test(value);
}

export function isClientId(value: unknown): value is string {
  if (typeof value !== 'string' || value.length === 0 || !value.isWellFormed()) return false;
  return value.length * 3 <= MAX_CLIENT_ID_BYTES || utf8Bytes(value) <= MAX_CLIENT_ID_BYTES;
}

function utf8Bytes(text: string): number {
  let bytes = 0;
  for (const char of text) {
    const point = char.codePointAt(0)!;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** What is wrong with a policy as people write it; nothing: it is a `PolicyText`. */
export function checkPolicy(value: unknown, path = ''): Mistake[] {
  if (!isObject(value)) return [{ field: path || 'body', expected: 'an object' }];
  const mistakes: Mistake[] = [];
  const at = (name: string): string => (path === '' ? name : `${path}.${name}`);
  const { tiers, defaultTier, onUnavailable, durability, shadow, adaptive, ...limits } = value;
  if (tiers === undefined) {
    mistakes.push(...checkLimits(limits, path));
    if (defaultTier !== undefined) mistakes.push({ field: at('defaultTier'), expected: 'none without tiers' });
  } else {
    for (const name of Object.keys(limits)) {
      mistakes.push({ field: at(name), expected: LIMIT_FIELDS.has(name) ? 'none beside tiers' : 'no such field' });
    }
    mistakes.push(...checkTiers(tiers, defaultTier, at));
  }
  if (onUnavailable !== undefined && !['local', 'open', 'closed'].includes(onUnavailable as string)) {
    mistakes.push({ field: at('onUnavailable'), expected: '"local" or "open" or "closed"' });
  }
  if (durability !== undefined && durability !== 'async' && durability !== 'replicated') {
    mistakes.push({ field: at('durability'), expected: '"async" or "replicated"' });
  }
  if (shadow !== undefined && typeof shadow !== 'boolean') {
    mistakes.push({ field: at('shadow'), expected: 'true or false' });
  }
  if (adaptive !== undefined) mistakes.push(...checkAdaptive(adaptive, at('adaptive')));
  return mistakes;
}

function checkTiers(tiers: unknown, defaultTier: unknown, at: (name: string) => string): Mistake[] {
  if (!isObject(tiers)) return [{ field: at('tiers'), expected: 'an object of limits by tier' }];
  const names = Object.keys(tiers);
  const mistakes: Mistake[] = [];
  if (names.length < 1 || names.length > MAX_TIERS) {
    mistakes.push({ field: at('tiers'), expected: `1 to ${MAX_TIERS} tiers` });
  }
  for (const name of names) {
    if (!isPolicyName(name)) mistakes.push({ field: at(`tiers.${name}`), expected: `a name of ${EXPECTED_NAME}` });
    mistakes.push(...checkLimits(tiers[name], at(`tiers.${name}`)));
  }
  if (typeof defaultTier !== 'string' || !names.includes(defaultTier)) {
    mistakes.push({ field: at('defaultTier'), expected: 'one of the tiers, for clients that have none of them' });
  }
  return mistakes;
}

function checkAdaptive(value: unknown, path: string): Mistake[] {
  if (!isObject(value)) return [{ field: path, expected: 'an object with target and min' }];
  const mistakes: Mistake[] = [];
  const part = (name: string, needed: boolean): void => {
    const given = value[name];
    if (given === undefined && !needed) return;
    if (typeof given !== 'number' || !(given > 0 && given <= 1)) {
      mistakes.push({ field: `${path}.${name}`, expected: 'a number above 0, at most 1' });
    }
  };
  part('target', true);
  part('min', true);
  part('errors', false);
  const { latencyMs } = value;
  if (latencyMs !== undefined && !(typeof latencyMs === 'number' && latencyMs > 0 && latencyMs <= 3_600_000)) {
    mistakes.push({ field: `${path}.latencyMs`, expected: 'ms, above 0, at most an hour' });
  }
  refuseOthers(value, ADAPTIVE_FIELDS, path, mistakes);
  return mistakes;
}

/**
 * What is wrong with one limit, or several in `limits`.
 * @param own whether it is a client's own under a policy, whose window it may take
 */
export function checkLimits(value: unknown, path = '', own = false): Mistake[] {
  if (!isObject(value)) return [{ field: path || 'body', expected: 'an object with a limit' }];
  if (!('limits' in value)) return checkLimit(value, path, own);
  const at = path === '' ? 'limits' : `${path}.limits`;
  const { limits, ...others } = value;
  const mistakes: Mistake[] = [];
  for (const name of Object.keys(others)) {
    const field = path === '' ? name : `${path}.${name}`;
    mistakes.push({ field, expected: LIMIT_FIELDS.has(name) ? 'none beside limits' : 'no such field' });
  }
  if (!Array.isArray(limits) || limits.length < 1 || limits.length > MAX_RULES) {
    return [...mistakes, { field: at, expected: `1 to ${MAX_RULES} limits` }];
  }
  const buckets: string[] = [];
  limits.forEach((limit: unknown, i) => {
    const found = checkLimit(limit, `${at}[${i}]`, false);
    mistakes.push(...found);
    if (found.length > 0) return;
    const { window, windowMs, algorithm = 'token-bucket' } = limit as LimitText;
    const bucket = `${windowMs ?? msOf(window)} ${algorithm}`;
    const twin = buckets.indexOf(bucket);
    buckets[i] = bucket;
    if (twin >= 0) {
      mistakes.push({ field: `${at}[${i}].window`, expected: `another window or algorithm than limits[${twin}]` });
    }
  });
  return mistakes;
}

function checkLimit(value: unknown, path: string, own: boolean): Mistake[] {
  if (!isObject(value)) return [{ field: path || 'body', expected: 'an object with a limit' }];
  const mistakes: Mistake[] = [];
  const fail = (name: string, expected: string): void => {
    mistakes.push({ field: path === '' ? name : `${path}.${name}`, expected });
  };
  const { limit, window, windowMs, burst, algorithm } = value;
  if (!isWhole(limit, 0, MAX_LIMIT)) fail('limit', `a whole number from 0 to ${MAX_LIMIT}`);
  if (window !== undefined && msOf(window) === undefined) fail('window', EXPECTED_WINDOW);
  if (windowMs !== undefined) {
    if (window !== undefined) fail('windowMs', 'none beside window');
    if (!isWhole(windowMs, 1, MAX_WINDOW_MS)) fail('windowMs', `whole ms from 1 to ${MAX_WINDOW_MS}`);
  }
  const windowed = window !== undefined || windowMs !== undefined;
  if (!windowed && !own) fail('window', EXPECTED_WINDOW);
  if (burst !== undefined && !isWhole(burst, 1, MAX_LIMIT)) fail('burst', `a whole number from 1 to ${MAX_LIMIT}`);
  if (algorithm !== undefined && algorithm !== 'token-bucket' && algorithm !== 'sliding-window') {
    fail('algorithm', '"token-bucket" or "sliding-window"');
  }
  if (algorithm !== undefined && !windowed && own) fail('algorithm', 'none without a window');
  if (burst !== undefined && algorithm === 'sliding-window') {
    fail('burst', 'none with sliding-window, which never lets more than limit pass');
  }
  refuseOthers(value, LIMIT_FIELDS, path, mistakes);
  return mistakes;
}

/** What is wrong with a client's own limits under this policy, or `undefined`, if there is none of that name. */
export function checkOverride(value: unknown, policy: PolicyText | undefined, path = ''): Mistake[] {
  const mistakes = checkLimits(value, path, true);
  if (mistakes.length > 0 || policy === undefined || !takesWindow(value as LimitsText)) return mistakes;
  const texts = 'tiers' in policy ? Object.values(policy.tiers) : [policy];
  const single = texts.every((text) => !('limits' in text) || text.limits.length === 1);
  const field = path === '' ? 'window' : `${path}.window`;
  return single ? [] : [{ field, expected: 'a window, as the policy has several limits' }];
}

const LIMIT_FIELDS: ReadonlySet<string> = new Set(['limit', 'window', 'windowMs', 'burst', 'algorithm', 'limits']);
const ADAPTIVE_FIELDS: ReadonlySet<string> = new Set(['target', 'min', 'latencyMs', 'errors']);

function refuseOthers(value: Fields, known: ReadonlySet<string>, path: string, mistakes: Mistake[]): void {
  for (const name of Object.keys(value)) {
    if (!known.has(name)) mistakes.push({ field: path === '' ? name : `${path}.${name}`, expected: 'no such field' });
  }
}

function msOf(window: unknown): number | undefined {
  if (typeof window === 'string') return parseDuration(window);
  return isWhole(window, 1, MAX_WINDOW_MS) ? window : undefined;
}

export function isWhole(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

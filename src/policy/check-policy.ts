import { EXPECTED_WINDOW, parseDuration, warningOnWindow } from '../limits/duration.js';
import { badValue, misplaced, unknownField, type Mistake, isWhole } from '../lib/mistake.js';
import { takesWindow, type LimitsText, type LimitText, type PolicyText } from './policy.js';
import { MAX_LIMIT, MAX_RULES, MAX_WINDOW_MS } from '../limits/bucket/rule.js';

export const MAX_POLICIES = 1_000;
const MAX_TIERS = 32;
/** Names are restricted because headers and metrics contain them unescaped. */
const NAME = /^[A-Za-z0-9_][\w.:-]{0,127}$/;
export const EXPECTED_NAME = 'letters, digits, "_", ".", ":" and "-", at most 128 of them';

type Fields = Readonly<Record<string, unknown>>;

export function isPolicyName(value: unknown): boolean {
  return typeof value === 'string' && NAME.test(value);
}

/** @returns the mistakes in a policy; without any it is a `PolicyText` */
export function checkPolicy(value: unknown, path = ''): Mistake[] {
  if (!isObject(value)) return [badValue(path || 'body', value, 'an object')];
  const mistakes: Mistake[] = [];
  const at = (name: string): string => join(path, name);
  const { tiers, defaultTier, onUnavailable, durability, shadow, adaptive, ...limits } = value;
  if (tiers === undefined) {
    mistakes.push(...checkLimits(limits, path, { known: [...LIMITS_FIELDS, ...POLICY_FIELDS] }));
    if (defaultTier !== undefined) mistakes.push(misplaced(at('defaultTier'), 'without tiers'));
  } else {
    for (const name of Object.keys(limits)) {
      const known = LIMITS_FIELDS.includes(name);
      mistakes.push(known ? misplaced(at(name), 'beside tiers') : unknownField(path, name, POLICY_FIELDS));
    }
    mistakes.push(...checkTiers(tiers, defaultTier, path));
  }
  const oneOf = (name: string, given: unknown, options: readonly unknown[]): void => {
    if (given === undefined || options.includes(given)) return;
    mistakes.push(badValue(at(name), given, options.map((option) => JSON.stringify(option)).join(' or ')));
  };
  oneOf('onUnavailable', onUnavailable, ['local', 'open', 'closed']);
  oneOf('durability', durability, ['async', 'replicated']);
  oneOf('shadow', shadow, [true, false]);
  if (adaptive !== undefined) mistakes.push(...checkAdaptive(adaptive, at('adaptive')));
  return mistakes;
}

function checkTiers(tiers: unknown, defaultTier: unknown, path: string): Mistake[] {
  const at = join(path, 'tiers');
  if (!isObject(tiers)) return [badValue(at, tiers, 'an object of limits by tier')];
  const names = Object.keys(tiers);
  const mistakes: Mistake[] = [];
  if (names.length < 1 || names.length > MAX_TIERS) mistakes.push(badValue(at, tiers, `1 to ${MAX_TIERS} tiers`));
  for (const name of names) {
    if (!isPolicyName(name)) mistakes.push(badValue(join(at, name), name, EXPECTED_NAME, 'a name'));
    mistakes.push(...checkLimits(tiers[name], join(at, name)));
  }
  if (typeof defaultTier !== 'string' || !names.includes(defaultTier)) {
    const expected = 'one of the tiers, for clients that have none of them';
    mistakes.push(badValue(join(path, 'defaultTier'), defaultTier, expected, 'a tier'));
  }
  return mistakes;
}

function checkAdaptive(value: unknown, path: string): Mistake[] {
  if (!isObject(value)) return [badValue(path, value, 'an object with target and min')];
  const mistakes: Mistake[] = [];
  const part = (name: string, needed: boolean): void => {
    const given = value[name];
    if (given === undefined && !needed) return;
    if (typeof given !== 'number' || !(given > 0 && given <= 1)) {
      mistakes.push(badValue(join(path, name), given, 'a number above 0, at most 1'));
    }
  };
  part('target', true);
  part('min', true);
  part('errors', false);
  const { latencyMs } = value;
  if (latencyMs !== undefined && !(typeof latencyMs === 'number' && latencyMs > 0 && latencyMs <= 3_600_000)) {
    mistakes.push(badValue(join(path, 'latencyMs'), latencyMs, 'milliseconds above 0, at most an hour'));
  }
  mistakes.push(...unknownFields(value, ADAPTIVE_FIELDS, path));
  return mistakes;
}

interface LimitsOptions {
  /** Whether the limits are an override, which may take the window of its policy. */
  readonly own?: boolean;
  /** All fields that are allowed in the object. */
  readonly known?: readonly string[];
}

/** @returns the mistakes in one limit, or in several in `limits` */
export function checkLimits(
  value: unknown,
  path = '',
  { own = false, known = LIMITS_FIELDS }: LimitsOptions = {},
): Mistake[] {
  if (!isObject(value)) return [badValue(path || 'body', value, 'an object with a limit')];
  if (!('limits' in value)) return checkLimit(value, path, own, known);
  const at = join(path, 'limits');
  const { limits, ...others } = value;
  const mistakes = Object.keys(others).map((name) =>
    LIMITS_FIELDS.includes(name) ? misplaced(join(path, name), 'beside limits') : unknownField(path, name, known),
  );
  if (!Array.isArray(limits) || limits.length < 1 || limits.length > MAX_RULES) {
    return [...mistakes, badValue(at, limits, `1 to ${MAX_RULES} limits`)];
  }
  const buckets: string[] = [];
  limits.forEach((limit: unknown, i) => {
    const found = checkLimit(limit, `${at}[${i}]`, false, LIMIT_FIELDS);
    mistakes.push(...found);
    if (found.length > 0) return;
    const { window, windowMs, algorithm = 'token-bucket' } = limit as LimitText;
    const bucket = `${windowMs ?? msOf(window)} ${algorithm}`;
    const twin = buckets.indexOf(bucket);
    buckets[i] = bucket;
    if (twin >= 0) mistakes.push(sameBucketTwice(`${at}[${i}].window`, twin));
  });
  return mistakes;
}

/** @returns the mistake of two limits that would use the same bucket */
export function sameBucketTwice(field: string, twin: number): Mistake {
  const expected = `another window or algorithm than limits[${twin}]`;
  return { field, expected, detail: `${field}: the same window and algorithm as limits[${twin}]; use another of them` };
}

function checkLimit(value: unknown, path: string, own: boolean, known: readonly string[]): Mistake[] {
  if (!isObject(value)) return [badValue(path || 'body', value, 'an object with a limit')];
  const mistakes: Mistake[] = [];
  const bad = (name: string, expected: string, noun?: string): void => {
    mistakes.push(badValue(join(path, name), value[name], expected, noun));
  };
  const { limit, window, windowMs, burst, algorithm } = value;
  if (!isWhole(limit, 0, MAX_LIMIT)) bad('limit', `a whole number from 0 to ${MAX_LIMIT}`);
  const windowed = window !== undefined || windowMs !== undefined;
  if (windowed ? window !== undefined && msOf(window) === undefined : !own)
    bad('window', EXPECTED_WINDOW, 'a duration');
  if (windowMs !== undefined) {
    if (window !== undefined) mistakes.push(misplaced(join(path, 'windowMs'), 'beside window'));
    if (!isWhole(windowMs, 1, MAX_WINDOW_MS)) bad('windowMs', `whole milliseconds from 1 to ${MAX_WINDOW_MS}`);
  }
  if (burst !== undefined && !isWhole(burst, 1, MAX_LIMIT)) bad('burst', `a whole number from 1 to ${MAX_LIMIT}`);
  if (algorithm !== undefined && algorithm !== 'token-bucket' && algorithm !== 'sliding-window') {
    bad('algorithm', '"token-bucket" or "sliding-window"');
  }
  if (algorithm !== undefined && !windowed && own)
    mistakes.push(misplaced(join(path, 'algorithm'), 'without a window'));
  if (burst !== undefined && algorithm === 'sliding-window')
    mistakes.push(misplaced(join(path, 'burst'), BESIDE_SLIDING_WINDOW));
  mistakes.push(...unknownFields(value, known, path));
  return mistakes;
}

/** The reason why a sliding window has no burst, for messages. */
export const BESIDE_SLIDING_WINDOW = 'with sliding-window, which never admits more than limit';

/** @returns the mistakes in an override of `policy`; without a policy, only those of its limits */
export function checkOverride(value: unknown, policy: PolicyText | undefined, path = ''): Mistake[] {
  const mistakes = checkLimits(value, path, { own: true });
  if (mistakes.length > 0 || policy === undefined || !takesWindow(value as LimitsText)) return mistakes;
  const texts = 'tiers' in policy ? Object.values(policy.tiers) : [policy];
  const single = texts.every((text) => !('limits' in text) || text.limits.length === 1);
  return single ? [] : [badValue(join(path, 'window'), undefined, 'a window, as the policy has several limits')];
}

/** @returns warnings about a valid policy, or valid limits: windows that may be meant in seconds */
export function warningsOn(value: PolicyText | LimitsText, path = ''): string[] {
  if ('tiers' in value) {
    const at = join(path, 'tiers');
    return Object.entries(value.tiers).flatMap(([name, limits]) => warningsOn(limits, join(at, name)));
  }
  if ('limits' in value) return value.limits.flatMap((limit, i) => warningsOn(limit, `${join(path, 'limits')}[${i}]`));
  const warning = warningOnWindow(join(path, 'window'), value.window);
  return warning === undefined ? [] : [warning];
}

const LIMIT_FIELDS: readonly string[] = ['limit', 'window', 'windowMs', 'burst', 'algorithm'];
const LIMITS_FIELDS: readonly string[] = [...LIMIT_FIELDS, 'limits'];
const POLICY_FIELDS: readonly string[] = ['tiers', 'defaultTier', 'onUnavailable', 'durability', 'shadow', 'adaptive'];
const ADAPTIVE_FIELDS: readonly string[] = ['target', 'min', 'latencyMs', 'errors'];

function unknownFields(value: Fields, known: readonly string[], path: string): Mistake[] {
  const unknown = Object.keys(value).filter((name) => !known.includes(name));
  return unknown.map((name) => unknownField(path, name, known));
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function msOf(window: unknown): number | undefined {
  if (typeof window === 'string') return parseDuration(window);
  return isWhole(window, 1, MAX_WINDOW_MS) ? window : undefined;
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

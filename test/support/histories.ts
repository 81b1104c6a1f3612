import fc from 'fast-check';
import { MAX_COST, MAX_LIMIT, MAX_WINDOW_MS, type Algorithm, type Rule } from '../../src/limits/bucket/rule.js';
import type { Verdict } from '../../src/limits/decide/decide.js';
import { slidingWindow, tokenBucket } from './rules.js';

/** Windows that divide nothing evenly, the ends of the range, and what people use. */
export const windowsMs = fc.oneof(
  fc.constantFrom(1, 2, 3, 7, 31, 32, 33, 997, 1_000, 60_000, 3_600_000, 86_400_000, 86_399_981, MAX_WINDOW_MS),
  fc.integer({ min: 1, max: 5_000 }),
  fc.integer({ min: 1, max: MAX_WINDOW_MS }),
);

export const limits = fc.oneof(
  fc.integer({ min: 1, max: 20 }),
  fc.constantFrom(1, 2, 3, 7, 997, 10_007, 999_999_937, MAX_LIMIT - 1, MAX_LIMIT),
  fc.integer({ min: 1, max: MAX_LIMIT }),
);

export const tokenRules = fc
  .record({ limit: limits, windowMs: windowsMs, burst: fc.option(limits, { nil: undefined }) })
  .map(({ limit, windowMs, burst }) => tokenBucket(limit, windowMs, burst));

export const windowRules = fc
  .record({ limit: limits, windowMs: windowsMs })
  .map(({ limit, windowMs }) => slidingWindow(limit, windowMs));

export const rules = fc.oneof(tokenRules, windowRules);

/** Up to `maxLength` rules of the same bucket: what callers may ask with, one after the other. */
export const changingRules = (algorithm: Algorithm, maxLength: number): fc.Arbitrary<Rule[]> =>
  windowsMs.chain((windowMs) =>
    fc.array(
      algorithm === 'token-bucket'
        ? fc.tuple(limits, limits).map(([limit, burst]) => tokenBucket(limit, windowMs, burst))
        : limits.map((limit) => slidingWindow(limit, windowMs)),
      { minLength: 1, maxLength },
    ),
  );

/**
 * One request of a history, told in units of the rule it meets, so that every rule sees its own edges: `pause` is how long
 * after the last one it comes, `offByMs` a little more or less, `cost` how much it asks for.
 */
export interface Step {
  readonly pause: 'none' | 'token' | 'third' | 'window' | 'retry' | 'reset' | 'back';
  readonly times: number;
  readonly offByMs: number;
  readonly cost: 'one' | 'few' | 'share' | 'left' | 'one-too-many' | 'all' | 'any';
  readonly share: number;
}

const step = fc.record({
  pause: fc.constantFrom('none', 'token', 'third', 'window', 'retry', 'reset'),
  times: fc.integer({ min: 1, max: 3 }),
  offByMs: fc.constantFrom(0, 0, 0, 1, -1),
  cost: fc.constantFrom('one', 'one', 'few', 'share', 'left', 'one-too-many', 'all', 'any'),
  share: fc.double({ min: 0, max: 1, noNaN: true }),
}) satisfies fc.Arbitrary<Step>;

/** `size`, as fast-check's arrays otherwise end after ten, whatever `maxLength` allows. */
const upTo = (maxLength: number) => ({ minLength: 1, maxLength, size: 'max' }) as const;

export const histories = (maxLength = 30): fc.Arbitrary<Step[]> => fc.array(step, upTo(maxLength));

/** Like `histories`, on a clock that also steps back. */
export const unsteadyHistories = (maxLength = 30): fc.Arbitrary<Step[]> =>
  fc.array(fc.oneof({ weight: 4, arbitrary: step }, { weight: 1, arbitrary: step.map(stepBack) }), upTo(maxLength));

function stepBack(of: Step): Step {
  return { ...of, pause: 'back' };
}

/** A bucket of 1e9 that refills by one a year rests longer than any clock runs, and than doubles can count. */
const LONGEST_PAUSE_MS = 1e14;

/** When the request of `step` comes: never before 0. */
export function timeOf({ pause, times, offByMs, share }: Step, rule: Rule, nowMs: number, last?: Verdict): number {
  const perTokenMs = Math.ceil(rule.windowMs / Math.max(1, rule.limit));
  const pauseMs = {
    none: 0,
    token: times * perTokenMs,
    third: Math.ceil((times * rule.windowMs) / 3),
    window: rule.windowMs,
    retry: last?.retryAfterMs ?? 0,
    reset: last?.resetMs ?? 0,
    back: -Math.ceil(share * 2 * rule.windowMs),
  }[pause];
  if (pause === 'back') return Math.max(0, nowMs + pauseMs);
  return pauseMs > LONGEST_PAUSE_MS ? nowMs : nowMs + Math.max(0, pauseMs + offByMs);
}

export function costOf({ cost, times, share }: Step, rule: Rule, last?: Verdict): number {
  const left = last?.remaining ?? rule.capacity;
  const tokens = {
    one: 1,
    few: times,
    share: Math.ceil(share * rule.capacity),
    left,
    'one-too-many': left + 1,
    all: rule.capacity,
    any: Math.ceil(share * MAX_COST),
  }[cost];
  return Math.min(Math.max(1, tokens), MAX_COST);
}

/** Up to four limits of different buckets, as one request may name them; some deny everything. */
export const severalRules: fc.Arbitrary<Rule[]> = fc.uniqueArray(
  fc.oneof(
    { weight: 9, arbitrary: rules },
    // With limit 0 a burst may be given all the same.
    { weight: 1, arbitrary: tokenRules.map((rule) => ({ ...rule, limit: 0 })) },
    { weight: 1, arbitrary: windowRules.map(({ windowMs }) => slidingWindow(0, windowMs)) },
  ),
  { minLength: 1, maxLength: 4, selector: ({ algorithm, windowMs }) => `${algorithm} ${windowMs}` },
);

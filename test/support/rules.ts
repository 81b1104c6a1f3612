import { Buckets, advance } from '../../src/limits/bucket/bucket.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import { decide, type Outcome } from '../../src/limits/decide/decide.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';

/** `limit` per `windowMs` in a bucket of `burst`. */
export function tokenBucket(limit: number, windowMs: number, burst = limit): Rule {
  return ruleOf('token-bucket', limit, windowMs, burst, undefined);
}

export function slidingWindow(limit: number, windowMs: number): Rule {
  return ruleOf('sliding-window', limit, windowMs, limit, undefined);
}

export function checkOf(rules: readonly Rule[], { clientId = 'alice', ...options }: Partial<Check> = {}): Check {
  return createCheck(clientKey(clientId), options.rules ?? rules, options);
}

export function noBuckets(): Buckets {
  return new Buckets();
}

/** Asks for `cost` under one rule or several. */
export function ask(buckets: Buckets, rules: Rule | readonly Rule[], nowMs: number, cost = 1): Outcome {
  return decideAndKeep(buckets, checkOf([rules].flat(), { cost }), nowMs);
}

/** Decides a check. The outcome stays valid. */
export function decideAndKeep(...asked: Parameters<typeof decide>): Outcome {
  return { ...decide(...asked) };
}

/** What `ask` would answer, while everything stays as it is, down to when it was last looked at. */
export function tryAsk(buckets: Buckets, rules: Rule | readonly Rule[], nowMs: number, cost = 1): Outcome {
  return ask(structuredClone(buckets), rules, nowMs, cost);
}

/** Asks for `cost` again and again at one instant; returns how many tokens passed before the first denial. */
export function drain(buckets: Buckets, rule: Rule, nowMs: number, cost = 1): number {
  const check = checkOf([rule], { cost });
  let passed = 0;
  while (decide(buckets, check, nowMs).allowed) passed += cost;
  return passed;
}

/** All that is consumed at `nowMs`, and under which rules; leaves everything as it is. */
export function consumed(buckets: Buckets, nowMs: number): unknown {
  const copy = structuredClone(buckets);
  for (let bucket = copy.first; bucket !== undefined; bucket = bucket.next) advance(bucket, nowMs);
  return copy.first;
}

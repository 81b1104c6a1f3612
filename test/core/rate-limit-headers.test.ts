import { expect } from 'chai';
import type { Decision } from '../../src/limits/decide/decision.js';
import { rateLimitHeaders } from '../../src/limits/request/rate-limit-headers.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { slidingWindow, tokenBucket } from '../support/rules.js';

const ALLOWED: Decision = {
  allowed: true,
  limit: 100,
  remaining: 42,
  retryAfterMs: 0,
  resetMs: 34_001,
  owner: 'a:1',
  source: 'owner',
  degraded: false,
  limits: undefined,
};

/** The headers by name. */
function headers(rules: readonly Rule[], decision: Partial<Decision> = {}): Record<string, string> {
  const list = rateLimitHeaders({ rules }, { ...ALLOWED, ...decision });
  return Object.fromEntries(list.flatMap((name, i) => (i % 2 === 0 ? [[name, list[i + 1]!]] : [])));
}

describe('the rate limit headers', () => {
  it('give quota, window, what is left, and the time until all is back, in whole seconds rounded up', () => {
    expect(headers([tokenBucket(100, 60_000)])).to.deep.equal({
      'RateLimit-Policy': '"default";q=100;w=60',
      RateLimit: '"default";r=42;t=35',
    });
  });

  it('leave out a window that is no whole number of seconds', () => {
    expect(headers([tokenBucket(100, 1_500)])['RateLimit-Policy']).to.equal('"default";q=100');
  });

  it('are named after the policy', () => {
    const rule = ruleOf('token-bucket', 100, 60_000, 100, 'api');
    expect(headers([rule])).to.include({ 'RateLimit-Policy': '"api";q=100;w=60', RateLimit: '"api";r=42;t=35' });
  });

  it('follow a limit that changed under the same rule', () => {
    const rule = tokenBucket(100, 60_000);
    expect(headers([rule])['RateLimit-Policy']).to.equal('"default";q=100;w=60');
    expect(headers([rule], { limit: 50 })['RateLimit-Policy']).to.equal('"default";q=50;w=60');
    expect(headers([rule])['RateLimit-Policy']).to.equal('"default";q=100;w=60');
  });

  it('name each of several limits by its window, and by its algorithm where that is no token bucket', () => {
    const rules = [tokenBucket(10, 1_000), slidingWindow(1_000, 86_400_000)];
    const limits = rules.map(({ algorithm, windowMs, limit }, i) => {
      return { algorithm, windowMs, limit, remaining: i, retryAfterMs: 0, resetMs: 1 };
    });
    expect(headers(rules, { limits })).to.include({
      'RateLimit-Policy': '"1s";q=10;w=1, "1d-sliding-window";q=1000;w=86400',
      RateLimit: '"1s";r=0;t=1, "1d-sliding-window";r=1;t=1',
    });
  });

  it('say when to come back, and nothing where waiting cannot help', () => {
    const rules = [tokenBucket(100, 60_000)];
    expect(headers(rules, { allowed: false, retryAfterMs: 1_001 })['Retry-After']).to.equal('2');
    expect(headers(rules, { allowed: false, retryAfterMs: null })).not.to.have.property('Retry-After');
    expect(headers(rules)).not.to.have.property('Retry-After');
  });

  it('stay within the integers of a structured field, however long a bucket takes to fill', () => {
    expect(headers([tokenBucket(1, 1_000)], { resetMs: 1e20 })['RateLimit']).to.equal(
      '"default";r=42;t=999999999999999',
    );
  });
});

import { expect } from 'chai';
import { createAcquire } from '../../src/client/waiting.js';
import type { Decision } from '../../src/core/decision.js';
import type { AllowRequest } from '../../src/core/request.js';
import { errorOf } from '../support/error-of.js';
import { createFakeTime } from '../support/fake-time.js';
import { ALLOWED, DENIED } from '../support/stub-node.js';

const RULE = { limit: 1, window: '1s' } as const;

describe('requests that wait for their turn', () => {
  const time = createFakeTime();
  const asked: string[] = [];
  const passed: string[] = [];
  let passAtMs: number[] = [];

  /** Lets one request pass at each of `passAtMs`. */
  function check({ clientId, requestId = '' }: AllowRequest): Promise<Decision> {
    asked.push(requestId);
    if (clientId === 'broken') return Promise.reject(new Error('broken'));
    const nextMs = clientId === 'never' ? Infinity : passAtMs[0]!;
    const leftMs = nextMs - time.nowMs();
    if (leftMs > 0)
      return Promise.resolve({ ...DENIED, retryAfterMs: leftMs < Infinity ? leftMs : null, limits: undefined });
    passAtMs.shift();
    return Promise.resolve({ ...ALLOWED, limits: undefined });
  }

  const acquire = createAcquire({ check, time });
  const wait = async (requestId: string, waitMs: number, more: object = {}): Promise<Decision> => {
    const decision = await acquire({ clientId: 'c', ...RULE, requestId, ...more }, { waitMs });
    passed.push(`${requestId} ${decision.allowed}`);
    return decision;
  };
  beforeEach(() => {
    asked.length = passed.length = 0;
    passAtMs = [1, 2, 3].map((n) => time.nowMs() + 1_000 * n);
  });

  it('pass in the order in which they came, and ask only when they may pass', async () => {
    const all = ['a', 'b', 'c'].map((id) => wait(id, 10_000));
    await time.pass(999);
    expect(passed).to.deep.equal([]);
    await time.pass(1);
    expect(passed).to.deep.equal(['a true']);
    await time.pass(2_000);
    await Promise.all(all);
    expect(passed).to.deep.equal(['a true', 'b true', 'c true']);
    expect(asked).to.deep.equal(['a', 'a', 'b', 'b', 'c', 'c']);
  });

  it('are denied as soon as it is known that they cannot pass in time', async () => {
    const [long, short] = [wait('long', 10_000), wait('short', 500)];
    expect((await short).allowed).to.equal(false);
    expect((await wait('never', 10_000, { clientId: 'never' })).retryAfterMs).to.equal(null);
    expect(await errorOf(wait('broken', 10_000, { clientId: 'broken' }))).to.have.property('message', 'broken');
    await time.pass(500);
    expect(await wait('late', 499)).to.include({ allowed: false, retryAfterMs: 500 });
    await time.pass(500);
    expect((await long).allowed).to.equal(true);
    expect(asked.filter((id) => id === 'late')).to.deep.equal([]);
  });

  it('do not wait for those of other clients or limits', async () => {
    const first = wait('first', 10_000);
    await time.pass(1);
    const others = [wait('client', 10_000, { clientId: 'd' }), wait('limit', 10_000, { limit: 2 })];
    expect(asked).to.deep.equal(['first', 'client', 'limit']);
    await time.pass(4_000);
    await Promise.all([first, ...others]);
  });

  it('leave the queue when they are given up', async () => {
    const abort = new AbortController();
    const gone = acquire({ clientId: 'c', ...RULE, requestId: 'gone' }, { waitMs: 10_000, signal: abort.signal });
    const next = wait('next', 10_000);
    await time.pass(10);
    abort.abort(new Error('gone'));
    expect(await errorOf(gone)).to.have.property('message', 'gone');
    await time.pass(1_000);
    expect((await next).allowed).to.equal(true);
    expect(asked).to.deep.equal(['gone', 'next']);
  });

  it('are at most 1,000: further ones are asked once', async () => {
    passAtMs = Array.from({ length: 1_000 }, () => time.nowMs() + 1_000);
    const waiting = Array.from({ length: 1_000 }, (_, i) => wait(`${i}`, 10_000));
    await time.pass(1);
    expect((await wait('further', 10_000)).allowed).to.equal(false);
    await time.pass(1_000);
    expect((await Promise.all(waiting)).every(({ allowed }) => allowed)).to.equal(true);
  });

  it('wait for at most an hour', async () => {
    for (const waitMs of [-1, NaN, 3_600_001])
      expect(await errorOf(wait('x', waitMs))).to.include({ code: 'invalid_request', field: 'waitMs' });
  });
});

import { getEventListeners } from 'node:events';
import { expect } from 'chai';
import { AcquireQueue } from '../../src/client/acquire-queue.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { AcquireOptions } from '../../src/limits/request/limiter.js';
import type { AllowRequest } from '../../src/limits/request/request.js';
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
  function check({ clientId, requestId = '', cost = 1 }: AllowRequest): Promise<Decision> {
    asked.push(requestId);
    // Costs above one take a minute to pass, and above a thousand never do.
    if (cost > 1) return Promise.resolve({ ...DENIED, retryAfterMs: cost > 1_000 ? null : 60_000, limits: undefined });
    if (clientId === 'no node')
      return Promise.resolve({ ...DENIED, resetMs: 0, source: 'fallback', degraded: true, limits: undefined });
    if (clientId === 'broken') return Promise.reject(new Error('broken'));
    const nextMs = clientId === 'never' ? Infinity : passAtMs[0]!;
    const leftMs = nextMs - time.nowMs();
    if (leftMs > 0)
      return Promise.resolve({ ...DENIED, retryAfterMs: leftMs < Infinity ? leftMs : null, limits: undefined });
    passAtMs.shift();
    return Promise.resolve({ ...ALLOWED, limits: undefined });
  }

  const queue = new AcquireQueue(check, time);
  const wait = async (requestId: string, longest: AcquireOptions['wait'], more: object = {}): Promise<Decision> => {
    const decision = await queue.acquire({ clientId: 'c', ...RULE, requestId, ...more }, { wait: longest });
    passed.push(`${requestId} ${decision.allowed}`);
    return decision;
  };
  beforeEach(() => {
    asked.length = passed.length = 0;
    passAtMs = [1, 2, 3].map((n) => time.nowMs() + 1_000 * n);
  });

  it('wait for no node: there is no turn without one', async () => {
    const both = [wait('a', 10_000, { clientId: 'no node' }), wait('b', 10_000, { clientId: 'no node' })];
    for (const decision of await Promise.all(both)) expect(decision).to.include({ source: 'fallback' });
    expect(asked).to.deep.equal(['a', 'b']);
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

  it('do not wait for those of other clients, scopes, or limits', async () => {
    const first = wait('first', 10_000);
    await time.pass(1);
    const others = [
      wait('client', 10_000, { clientId: 'd' }),
      wait('scope', 10_000, { scope: 's' }),
      wait('limit', 10_000, { limit: 2 }),
    ];
    expect(asked).to.deep.equal(['first', 'client', 'scope', 'limit']);
    await time.pass(4_000);
    await Promise.all([first, ...others]);
  });

  it('leave the queue when they are given up', async () => {
    const abort = new AbortController();
    const gone = queue.acquire({ clientId: 'c', ...RULE, requestId: 'gone' }, { wait: '10s', signal: abort.signal });
    const next = wait('next', 10_000);
    await time.pass(10);
    abort.abort(new Error('gone'));
    expect(await errorOf(gone)).to.have.property('message', 'gone');
    await time.pass(1_000);
    expect((await next).allowed).to.equal(true);
    expect(asked).to.deep.equal(['gone', 'next']);
  });

  it('sleep no longer than one of them waits, and let go of the signal of one that is done', async () => {
    const abort = new AbortController();
    const listeners = (): number => getEventListeners(abort.signal, 'abort').length;
    const gone = queue.acquire({ clientId: 'c', ...RULE }, { wait: '1h', signal: abort.signal });
    const next = queue.acquire({ clientId: 'd', ...RULE }, { wait: '1h', signal: abort.signal });
    await time.pass(1_000);
    expect((await gone).allowed).to.equal(true);
    expect(listeners()).to.equal(1);
    expect(time.timers()).to.equal(1);
    abort.abort();
    expect(await errorOf(next)).to.have.property('name', 'AbortError');
    expect({ listeners: listeners(), timers: time.timers() }).to.deep.equal({ listeners: 0, timers: 0 });
  });

  it('do not fail with one before them whose cost never passes, or passes after its own wait', async () => {
    for (const cost of [1_001, 100]) {
      passAtMs = [time.nowMs() + 1_000];
      const large = wait('large', 10_000, { cost });
      const same = wait('same', 10_000, { cost });
      const small = wait('small', 10_000);
      expect((await large).allowed).to.equal(false);
      expect((await same).allowed).to.equal(false);
      await time.pass(1_000);
      expect((await small).allowed).to.equal(true);
    }
    expect(asked).to.deep.equal(['large', 'small', 'small', 'large', 'small', 'small']);
  });

  it('ask at once when a larger one before them is given up', async () => {
    const abort = new AbortController();
    const gone = queue.acquire({ clientId: 'c', ...RULE, cost: 100 }, { wait: '1h', signal: abort.signal });
    const next = wait('next', '1h');
    await time.pass(10);
    abort.abort(new Error('gone'));
    expect(await errorOf(gone)).to.have.property('message', 'gone');
    await time.pass(990);
    expect((await next).allowed).to.equal(true);
  });

  it('are rejected when their limiter closes', async () => {
    const both = ['a', 'b'].map((id) => errorOf(wait(id, '1h')));
    await time.pass(1);
    queue.close();
    for (const error of await Promise.all(both)) expect(error).to.have.property('code', 'closed');
    expect(time.timers()).to.equal(0);
  });

  it('are at most 1,000: a further one is asked once, or denied as those before it are', async () => {
    passAtMs = Array.from({ length: 1_000 }, () => time.nowMs() + 1_000);
    const waiting = Array.from({ length: 1_000 }, (_, i) => wait(`${i}`, 10_000));
    await time.pass(1);
    // One would pass now, if it did not come after those that wait.
    passAtMs[0] = time.nowMs();
    expect(await wait('further', 10_000)).to.include({ allowed: false, retryAfterMs: 999 });
    expect(await wait('other', 10_000, { clientId: 'd' })).to.include({ allowed: true });
    passAtMs.push(time.nowMs());
    await time.pass(1_000);
    expect((await Promise.all(waiting)).every(({ allowed }) => allowed)).to.equal(true);
  });

  it('wait as long as a duration says, as text or in ms, and for at most an hour', async () => {
    passAtMs = [time.nowMs() + 600];
    expect((await wait('short', '500ms')).allowed).to.equal(false);
    const long = wait('long', '1s');
    await time.pass(600);
    expect((await long).allowed).to.equal(true);
    const expected = 'whole milliseconds or "500ms", "2s", up to "1h"';
    for (const bad of [-1, NaN, 1.5, 3_600_001, '61m', 'soon', '500'] as AcquireOptions['wait'][]) {
      const error = await errorOf(wait('x', bad));
      expect(error).to.include({ code: 'invalid_request', field: 'wait', expected });
      expect(error)
        .to.have.property('detail')
        .that.matches(/^(?:wait: .+ is not valid|wait is missing); use whole/);
    }
    const former = { waitMs: 5 } as unknown as AcquireOptions;
    expect(await errorOf(queue.acquire({ clientId: 'c', ...RULE }, former))).to.include({ field: 'wait' });
  });
});

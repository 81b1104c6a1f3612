import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, decisionOf, liveNode, newClient, OWNER, post } from '../support/http.js';

describe('POST /v1/allow', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });

  it('answers an allowed request with 200 and the whole decision', async () => {
    const answer = await post(node, '/v1/allow', { clientId: newClient(), limit: 5, window: '1m' });
    expect(answer.status).to.equal(200);
    const { allowed, limit, remaining, retryAfterMs, resetMs, owner, source, degraded } = decisionOf(answer);
    const figures = { allowed, limit, remaining, retryAfterMs, resetMs };
    expect(figures).to.deep.equal({ allowed: true, limit: 5, remaining: 4, retryAfterMs: 0, resetMs: 12_000 });
    expect({ owner, source, degraded }).to.deep.equal({ owner: OWNER, source: 'owner', degraded: false });
    expect(answer.text).to.equal(JSON.stringify(answer.json));
  });

  it('answers a denied request with 429 and a body of the same form', async () => {
    const question = { clientId: newClient(), limit: 2, window: '1h' };
    const first = await post(node, '/v1/allow', question);
    await post(node, '/v1/allow', question);
    const denied = await post(node, '/v1/allow', question);
    expect(denied.status).to.equal(429);
    expect(Object.keys(denied.json as object)).to.deep.equal(Object.keys(first.json as object));
    const { allowed, limit, remaining, retryAfterMs, resetMs } = decisionOf(denied);
    expect({ allowed, limit, remaining }).to.deep.equal({ allowed: false, limit: 2, remaining: 0 });
    expect(retryAfterMs).to.be.within(1_700_000, 1_800_000);
    expect(resetMs).to.be.within(3_500_000, 3_600_000);
  });

  it('answers a denial with 200 where the node is told to', async () => {
    const lenient = await liveNode('--denied-status', '200');
    const answer = await post(lenient, '/v1/allow', { clientId: newClient(), limit: 0, window: '1s' });
    expect(answer.status).to.equal(200);
    expect(decisionOf(answer).allowed).to.equal(false);
  });

  it('lets exactly limit requests of one moment pass, and the denied ones cost nothing', async () => {
    const question = { clientId: newClient(), limit: 7, window: '1d' };
    const decisions = await Promise.all(Array.from({ length: 20 }, () => allow(node, question)));
    expect(decisions.filter(({ allowed }) => allowed)).to.have.length(7);
    const raised = await allow(node, { ...question, limit: 8 });
    expect(raised).to.include({ allowed: true, remaining: 0 });
  });

  it('says null for a wait that will never end', async () => {
    const clientId = newClient();
    expect((await allow(node, { clientId, limit: 0, window: '1s' })).retryAfterMs).to.equal(null);
    expect((await allow(node, { clientId, limit: 5, window: '1s', cost: 6 })).retryAfterMs).to.equal(null);
    expect((await allow(node, { clientId, limit: 5, window: '1s', burst: 6, cost: 6 })).allowed).to.equal(true);
  });

  it('takes cost tokens at once, and none for a peek', async () => {
    const question = { clientId: newClient(), limit: 10, window: '1d' };
    expect((await allow(node, { ...question, cost: 4 })).remaining).to.equal(6);
    expect((await allow(node, { ...question, peek: true, cost: 6 })).allowed).to.equal(true);
    expect((await allow(node, { ...question, peek: true, cost: 7 })).allowed).to.equal(false);
    expect((await allow(node, { ...question, cost: 6 })).allowed).to.equal(true);
  });

  it('reads a window as milliseconds or as text, and finds the same bucket by each', async () => {
    const clientId = newClient();
    const windows: object[] = ['1d', '24h', '1440m', '86400s', '86400000ms', 86_400_000].map((window) => ({ window }));
    const remaining = [];
    for (const window of [...windows, { windowMs: 86_400_000 }]) {
      remaining.push((await allow(node, { clientId, limit: 10, ...window })).remaining);
    }
    expect(remaining).to.deep.equal([9, 8, 7, 6, 5, 4, 3]);
  });

  it('keeps a sliding window apart from a token bucket', async () => {
    const question = { clientId: newClient(), limit: 1, window: '1d' };
    expect((await allow(node, question)).allowed).to.equal(true);
    expect((await allow(node, { ...question, algorithm: 'sliding-window' })).allowed).to.equal(true);
    expect((await allow(node, { ...question, algorithm: 'sliding-window' })).allowed).to.equal(false);
    expect((await allow(node, { ...question, algorithm: 'token-bucket' })).allowed).to.equal(false);
  });

  describe('with several limits', () => {
    const limits = [
      { limit: 2, window: '1h' },
      { limit: 10, window: '1d', burst: 20 },
      { limit: 5, windowMs: 3_600_000, algorithm: 'sliding-window' },
    ];

    it('charges all or none, and gives the figures of each', async () => {
      const clientId = newClient();
      await allow(node, { clientId, limits });
      const second = await allow(node, { clientId, limits });
      const third = await allow(node, { clientId, limits });
      expect(second).to.include({ allowed: true, limit: 2, remaining: 0 });
      expect(third).to.include({ allowed: false, limit: 2, remaining: 0 });
      expect(third.limits?.map(({ limit, remaining }) => [limit, remaining])).to.deep.equal([
        [2, 0],
        [10, 18],
        [5, 3],
      ]);
      expect(third.limits?.map(({ algorithm, windowMs }) => [algorithm, windowMs])).to.deep.equal([
        ['token-bucket', 3_600_000],
        ['token-bucket', 86_400_000],
        ['sliding-window', 3_600_000],
      ]);
      expect(third.limits?.map(({ retryAfterMs }) => retryAfterMs === 0)).to.deep.equal([false, true, true]);
    });

    it('takes eight of them', async () => {
      const eight = Array.from({ length: 8 }, (_, i) => ({ limit: 10 + i, window: `${i + 1}h` }));
      const decision = await allow(node, { clientId: newClient(), limits: eight });
      expect(decision.limits).to.have.length(8);
      expect(decision).to.include({ allowed: true, limit: 10, remaining: 9 });
    });

    it('takes one, and gives the figures once', async () => {
      const decision = await allow(node, { clientId: newClient(), limits: [{ limit: 3, window: '1s' }] });
      expect(decision).to.include({ allowed: true, remaining: 2 });
    });
  });

  describe('with a request id', () => {
    it('gives the first decision again, and charges once', async () => {
      const question = { clientId: newClient(), limit: 3, window: '1d', requestId: 'r1' };
      const first = await post(node, '/v1/allow', question);
      const again = await post(node, '/v1/allow', question);
      expect(again.text).to.equal(first.text);
      expect((await allow(node, { ...question, requestId: 'r2' })).remaining).to.equal(1);
    });

    it('gives a denial again, although the limit would allow by now', async () => {
      const question = { clientId: newClient(), limit: 1, window: '1d', requestId: 'r' };
      await allow(node, { ...question, requestId: 'before' });
      expect((await allow(node, question)).allowed).to.equal(false);
      expect((await allow(node, { ...question, limit: 100 })).allowed).to.equal(false);
    });

    it('takes the same id of another client for another request', async () => {
      const question = { limit: 1, window: '1d', requestId: 'same' };
      expect((await allow(node, { ...question, clientId: newClient() })).allowed).to.equal(true);
      expect((await allow(node, { ...question, clientId: newClient() })).allowed).to.equal(true);
    });

    it('gives the first decision again whatever is asked the second time', async () => {
      const one = { limit: 3, window: '1s' };
      const three = { limits: [one, { limit: 4, window: '1m' }, { limit: 5, window: '1h' }] };
      for (const [first, second] of [
        [three, one],
        [one, three],
      ]) {
        const clientId = newClient();
        const before = await post(node, '/v1/allow', { clientId, requestId: 'r', ...first });
        const again = await post(node, '/v1/allow', { clientId, requestId: 'r', ...second });
        expect(again.status).to.equal(200);
        expect(again.text).to.equal(before.text);
      }
    });
  });

  it('takes any Unicode for a client, names of the language included', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '\u0000', ' ', '🦉', '\u00e9', 'e\u0301'];
    const longest = ['x'.repeat(256), '€'.repeat(85), '🦉'.repeat(64)];
    for (const name of [...names, ...longest]) {
      const first = await allow(node, { clientId: name, limit: 2, window: '1d' });
      expect(first, name).to.include({ allowed: true, remaining: 1 });
    }
  });

  it('answers the same by way of Express, which takes all other spellings of the address', async () => {
    const clientId = newClient();
    let left = 10;
    for (const path of ['/v1/allow', '/v1/allow?x=1', '/v1/allow/', '/V1/Allow']) {
      const answer = await post(node, path, { clientId, limit: 10, window: '1d' });
      left -= 1;
      expect(answer.status, path).to.equal(200);
      expect(decisionOf(answer).remaining, path).to.equal(left);
      expect(answer.headers).to.include.keys('ratelimit', 'ratelimit-policy');
    }
  });

  it('takes any parameters of the content type but another charset, and white space around the JSON', async () => {
    const body = `\n\t ${JSON.stringify({ clientId: newClient(), limit: 1, window: '1s' })} \r\n`;
    for (const type of [
      'application/json; charset=utf-8',
      'Application/JSON;charset="UTF-8"',
      'application/json ',
      'application/json;',
      'application/json; foo=bar',
      'application/json ; x="y;z"; charset=utf-8 ; profile=a',
      'application/json; accept-charset=latin1',
    ]) {
      const answer = await call(node, '/v1/allow', { method: 'POST', headers: { 'content-type': type }, body });
      expect([200, 429], type).to.include(answer.status);
    }
  });
});

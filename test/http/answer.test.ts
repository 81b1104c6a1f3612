import { expect } from 'chai';
import fc from 'fast-check';
import { SOURCES, type Decision } from '../../src/limits/decide/decision.js';
import { rateLimitHeaders } from '../../src/limits/request/rate-limit-headers.js';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import { JsonDecisionWriter } from '../../src/server/http/decisions/decision-writer.js';
import { Counters } from '../../src/server/edge/counters.js';
import { readCheck } from '../../src/server/validate/request.js';
import type { RunningNode } from '../../src/app/main.js';
import { decisionOf, liveNode, newClient, post, type Answer } from '../support/http.js';

/** The items of a structured field (RFC 9651) whose members are strings with whole numbers for parameters. */
function readField(text: string | string[] | undefined): { name: string; figures: Record<string, number> }[] {
  expect(text).to.be.a('string');
  return (text as string).split(', ').map((item) => {
    expect(item).to.match(/^"[ !#-[\]-~]*"(;[a-z]+=\d{1,15})+$/);
    const [name, ...figures] = item.split(';');
    const pairs = figures.map((figure) => figure.split('=') as [string, string]);
    return { name: name!.slice(1, -1), figures: Object.fromEntries(pairs.map(([key, value]) => [key, Number(value)])) };
  });
}

const fields = ({ headers }: Answer): unknown[] => [
  readField(headers['ratelimit-policy']),
  readField(headers['ratelimit']),
];

describe('the answer to a decision', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });
  const ask = (more: object): Promise<Answer> => post(node, '/v1/allow', { clientId: newClient(), ...more });

  it('tells the policy and what is left in RateLimit headers', async () => {
    expect(fields(await ask({ limit: 5, window: '1m' }))).to.deep.equal([
      [{ name: 'default', figures: { q: 5, w: 60 } }],
      [{ name: 'default', figures: { r: 4, t: 12 } }],
    ]);
  });

  it('tells each of several limits, by its window', async () => {
    const limits = [
      { limit: 5, window: '1m' },
      { limit: 100, window: '36h' },
      { limit: 9, window: '1m', algorithm: 'sliding-window' },
    ];
    const answer = await ask({ limits });
    const [policies, states] = fields(answer) as [unknown[], { name: string; figures: Record<string, number> }[]];
    expect(policies).to.deep.equal([
      { name: '1m', figures: { q: 5, w: 60 } },
      { name: '36h', figures: { q: 100, w: 129_600 } },
      { name: '1m-sliding-window', figures: { q: 9, w: 60 } },
    ]);
    expect(states.map(({ name }) => name)).to.deep.equal(['1m', '36h', '1m-sliding-window']);
    expect(states.map(({ figures }) => figures['r'])).to.deep.equal([4, 99, 8]);
  });

  it('leaves out a window that is no whole number of seconds', async () => {
    const answer = await ask({ limit: 1, window: '1500ms' });
    expect(fields(answer)[0]).to.deep.equal([{ name: 'default', figures: { q: 1 } }]);
  });

  it('tells the policy of this question, whatever was asked before', async () => {
    const [minute, hour] = ['1m', '1h'];
    for (const [limit, window, w] of [
      [5, minute, 60],
      [5, hour, 3600],
      [6, hour, 3600],
      [6, minute, 60],
      [5, minute, 60],
    ]) {
      expect(fields(await ask({ limit, window }))[0]).to.deep.equal([{ name: 'default', figures: { q: limit, w } }]);
    }
    const again = { clientId: newClient(), requestId: 'r', window: minute };
    await post(node, '/v1/allow', { ...again, limit: 5 });
    await ask({ limit: 6, window: minute });
    const first = await post(node, '/v1/allow', { ...again, limit: 6 });
    expect(fields(first)[0]).to.deep.equal([{ name: 'default', figures: { q: 5, w: 60 } }]);
  });

  it('names the wait of a denial in whole seconds, rounded up', async () => {
    const question = { clientId: newClient(), limit: 1, window: '1h' };
    expect((await post(node, '/v1/allow', question)).headers).not.to.have.property('retry-after');
    const denied = await post(node, '/v1/allow', question);
    expect(denied.status).to.equal(429);
    expect(denied.headers['retry-after']).to.equal(String(Math.ceil(decisionOf(denied).retryAfterMs! / 1000)));
  });

  it('names no wait where no waiting helps', async () => {
    const denied = await ask({ limit: 0, window: '1s' });
    expect(denied.status).to.equal(429);
    expect(denied.headers).not.to.have.property('retry-after');
    expect(fields(denied)).to.deep.equal([
      [{ name: 'default', figures: { q: 0, w: 1 } }],
      [{ name: 'default', figures: { r: 0, t: 0 } }],
    ]);
  });

  it('stays within the numbers of a structured field, however long the wait', async () => {
    const worst = { limit: 1, window: '366d', burst: 1e9, cost: 1e9 };
    const [, [state]] = fields(await ask(worst)) as [unknown, [{ figures: Record<string, number> }]];
    expect(state.figures['t']).to.equal(999_999_999_999_999);
  });

  const whole = fc.nat({ max: 1e9 });
  const wait = fc.oneof(whole, fc.constant(null), fc.constant(3.16224e19), fc.constant(Number.MAX_SAFE_INTEGER));
  const figures = fc.record({
    algorithm: fc.constantFrom('token-bucket' as const, 'sliding-window' as const),
    windowMs: fc.integer({ min: 1, max: 366 * 86_400_000 }),
    limit: whole,
    remaining: whole,
    retryAfterMs: wait,
    resetMs: whole,
  });
  const decisions: fc.Arbitrary<Decision> = fc.record({
    allowed: fc.boolean(),
    limit: fc.oneof(whole, fc.constant(-0)),
    remaining: whole,
    retryAfterMs: wait,
    resetMs: fc.oneof(whole, fc.constant(3.16224e22)),
    owner: fc.oneof(fc.constant('10.0.0.1:9080'), fc.string({ unit: 'binary' })),
    source: fc.constantFrom(...SOURCES),
    degraded: fc.boolean(),
    limits: fc.oneof(fc.constant(undefined), fc.array(figures, { maxLength: 8 })),
  });

  it('is the JSON that JSON.stringify would write, with an escape for what is not ASCII', () => {
    const writer = new JsonDecisionWriter(new Counters());
    const item = new CheckBatch().add(readCheck({ clientId: 'a', limit: 1, window: '1s' }));
    fc.assert(
      fc.property(decisions, (decision) => {
        item.record(decision, decision);
        const json = writer.one(item).text();
        expect(json).to.match(/^[ -~]*$/);
        expect(JSON.stringify(JSON.parse(json))).to.equal(JSON.stringify(decision));
      }),
    );
  });

  it('has headers in the form of the draft, whatever the decision', () => {
    const check = readCheck({ clientId: 'a', limit: 1, window: '1s' });
    fc.assert(
      fc.property(decisions, (decision) => {
        fc.pre(decision.limits?.length !== 0);
        const headers = rateLimitHeaders(check, decision);
        const items = readField(headers[headers.indexOf('RateLimit') + 1]);
        expect(readField(headers[headers.indexOf('RateLimit-Policy') + 1])).to.have.length(items.length);
        expect(items).to.have.length(decision.limits?.length ?? 1);
        expect(headers.includes('Retry-After')).to.equal(!decision.allowed && decision.retryAfterMs !== null);
      }),
    );
  });
});

import { expect } from 'chai';
import type { Decision } from '../../src/limits/decide/decision.js';
import { BatchAnswerSchema } from '../../src/server/validate/schema.js';
import type { RunningNode } from '../../src/app/main.js';
import {
  expectProblem,
  expectShape,
  liveNode,
  newClient,
  post,
  type Answer,
  type ProblemBody,
} from '../support/http.js';
import { MIB } from './memory.js';

type Result = Decision & { error?: ProblemBody };

function resultsOf(answer: Answer): Result[] {
  expect(answer.status, answer.text).to.equal(200);
  expect(answer.headers['content-type']).to.equal('application/json');
  expectShape(BatchAnswerSchema, answer.json);
  return (answer.json as { results: Result[] }).results;
}

describe('POST /v1/allow/batch', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });
  const ask = (value: unknown): Promise<Answer> => post(node, '/v1/allow/batch', value);

  it('answers in the order of the requests', async () => {
    const prefix = newClient();
    const requests = Array.from({ length: 100 }, (_, i) => ({ clientId: `${prefix}.${i}`, limit: i, window: '1d' }));
    const results = resultsOf(await ask({ requests }));
    expect(results.map(({ limit }) => limit)).to.deep.equal(requests.map(({ limit }) => limit));
    expect(results.map(({ allowed }) => allowed)).to.deep.equal(requests.map(({ limit }) => limit > 0));
  });

  it('charges one item after the other', async () => {
    const item = { clientId: newClient(), limit: 3, window: '1d' };
    const results = resultsOf(await ask({ requests: [item, item, { ...item, peek: true }, item, item] }));
    expect(results.map(({ allowed, remaining }) => [allowed, remaining])).to.deep.equal([
      [true, 2],
      [true, 1],
      [true, 1],
      [true, 0],
      [false, 0],
    ]);
  });

  it('takes a thousand, and one', async () => {
    const item = { clientId: newClient(), limit: 1000, window: '1d' };
    const results = resultsOf(await ask({ requests: new Array(1000).fill(item) }));
    expect(results).to.have.length(1000);
    expect(results.at(-1)?.remaining).to.equal(0);
    expect(resultsOf(await ask({ requests: [item] }))).to.have.length(1);
  });

  it('answers 200 though all are denied, and without the headers of a single decision', async () => {
    const answer = await ask({ requests: [{ clientId: newClient(), limit: 0, window: '1d' }] });
    expect(resultsOf(answer)[0]?.allowed).to.equal(false);
    expect(answer.headers).not.to.have.any.keys('ratelimit', 'ratelimit-policy', 'retry-after');
  });

  it('answers the mistake of an item in its place, and decides the others', async () => {
    const good = { clientId: newClient(), limit: 3, window: '1d' };
    const bad = [null, 7, 'text', [], {}, { ...good, limit: -1 }, { ...good, cost: 0 }, { ...good, extra: 1 }];
    const results = resultsOf(await ask({ requests: [good, ...bad, good] }));
    expect(results[0]).to.include({ allowed: true, remaining: 2 });
    expect(results.at(-1)).to.include({ allowed: true, remaining: 1 });
    const fields = results.slice(1, -1).map(({ error }) => [error?.code, error?.status, error?.field]);
    expect(fields).to.deep.equal(
      ['body', 'body', 'body', 'body', 'clientId', 'limit', 'cost', 'extra'].map((field) => [
        'invalid_request',
        400,
        field,
      ]),
    );
  });

  it('knows a request id from the item before, and from a single request', async () => {
    const item = { clientId: newClient(), limit: 5, window: '1d', requestId: 'r' };
    const results = resultsOf(await ask({ requests: [item, item] }));
    expect(results.map(({ remaining }) => remaining)).to.deep.equal([4, 4]);
    const single = await post(node, '/v1/allow', item);
    expect(single.json).to.deep.equal(results[0]);
  });

  const item = { clientId: 'never', limit: 5, window: '1d' };
  const refused: [what: string, value: unknown, field: string][] = [
    ['none', { requests: [] }, 'requests'],
    ['1001', { requests: new Array(1001).fill(item) }, 'requests'],
    ['a list in place of the object', [item], 'body'],
    ['an object in place of the list', { requests: { 0: item } }, 'requests'],
    ['no list', {}, 'requests'],
    ['null', { requests: null }, 'requests'],
    ['a field that is none', { requests: [item], request: item }, 'request'],
    ['a single request', item, 'requests'],
  ];
  for (const [what, value, field] of refused) {
    it(`refuses ${what}, and decides nothing`, async () => {
      expectProblem(await ask(value), 'invalid_request', field);
      expect(resultsOf(await ask({ requests: [{ ...item, peek: true }] }))[0]?.remaining).to.equal(5);
    });
  }

  it('takes a body of 1 MiB, and refuses one byte more', async () => {
    const body = JSON.stringify({ requests: [{ clientId: newClient(), limit: 1, window: '1d' }] });
    expect(resultsOf(await ask(body.padEnd(MIB)))[0]?.allowed).to.equal(true);
    expectProblem(await ask(body.padEnd(MIB + 1)), 'too_large', 'body');
  });

  it('answers a name given twice in one item with a problem for the whole body', async () => {
    const body = `{"requests":[${JSON.stringify(item)},{"clientId":"never","limit":5,"window":"1d","limit":6}]}`;
    expectProblem(await ask(body), 'invalid_json', 'limit');
  });

  it('takes JSON as deep as the body is long for the mistake of an item', async () => {
    const deep = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    for (const depth of [10_000, 500_000]) {
      const good = JSON.stringify({ ...item, clientId: newClient() });
      const results = resultsOf(await ask(`{"requests":[${deep(depth)},{"clientId":${deep(9)}},${good}]}`));
      expect(results.map(({ error }) => error?.field)).to.deep.equal(['body', 'clientId', undefined]);
    }
  });
});

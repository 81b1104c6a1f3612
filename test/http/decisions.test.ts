import { expect } from 'chai';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import type { Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { Access } from '../../src/server/edge/access.js';
import { Counters } from '../../src/server/edge/counters.js';
import { ServerContext } from '../../src/server/edge/server-context.js';
import { DecisionEndpoints } from '../../src/server/http/decisions/handlers.js';
import { deciderOf } from '../support/batch.js';
import { decisionOf, expectProblem, post } from '../support/http.js';
import { connect, frame } from './wire.js';

const allowed: Decision = {
  allowed: true,
  limit: 5,
  remaining: 4,
  retryAfterMs: 0,
  resetMs: 1000,
  owner: 'far:1',
  source: 'forwarded',
  degraded: false,
  limits: undefined,
};

/** Lets the decisions go that are held back. */
const held: (() => void)[] = [];

/** Answers by the client's name: here and now, later, or not at all. */
function decide({ clientId, cost }: Check): Decision | Promise<Decision> {
  const decision = { ...allowed, remaining: cost };
  if (clientId === 'throws') throw new Error('secret of the house');
  if (clientId === 'rejects') return Promise.reject(new Error('secret of the house'));
  if (clientId === 'unwritable') return Promise.resolve(null as unknown as Decision);
  if (clientId === 'held') return new Promise((resolve) => held.push(() => resolve(decision)));
  if (clientId === 'later') return new Promise((resolve) => setImmediate(() => resolve(decision)));
  return decision;
}

describe('the decision endpoints, over a limiter that takes its time and fails', () => {
  const counters = new Counters();
  const logged: unknown[] = [];
  let server: Server;
  let node: { port: number };
  before(async () => {
    const limiter = deciderOf(decide);
    const log = { error: (fields: object, message: string): void => void logged.push({ ...fields, message }) };
    const access = new Access({ required: [], tokens: [] });
    const deps = { limiter, access, counters, stage: () => 'ready' as const, elapsedMs: () => 0, log };
    const { allow, batch } = new DecisionEndpoints(new ServerContext({ ...deps, maxInFlight: 100 }), 429);
    server = createServer((req, res) => (req.url === '/v1/allow' ? allow(req, res) : batch(req, res)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    node = { port: (server.address() as AddressInfo).port };
  });
  after(() => server.close().closeIdleConnections());
  const question = (clientId: string, cost = 1): object => ({ clientId, limit: 5, window: '1s', cost });

  it('answer when the decision is there', async () => {
    const answers = await Promise.all(['now', 'later'].map((clientId) => post(node, '/v1/allow', question(clientId))));
    for (const answer of answers) expect(decisionOf(answer)).to.include({ source: 'forwarded', owner: 'far:1' });
  });

  it('answer a batch in its order, whichever decision comes first', async () => {
    const requests = ['later', 'now', 'later', 'now'].map((clientId, i) => question(clientId, i + 1));
    const { json } = await post(node, '/v1/allow/batch', { requests });
    expect((json as { results: Decision[] }).results.map(({ remaining }) => remaining)).to.deep.equal([1, 2, 3, 4]);
  });

  it('count what is in flight, many requests of one connection too, until they are answered or broken off', async () => {
    const inFlight = async (expected: number): Promise<void> => {
      for (let tries = 0; tries < 500 && counters.inFlight !== expected; tries += 1) await wait(2);
      expect(counters.inFlight).to.equal(expected);
    };
    const ask = (clientId: string): Buffer => frame('/v1/allow', JSON.stringify(question(clientId)));
    const [patient, hasty, rude] = await Promise.all([connect(node.port), connect(node.port), connect(node.port)]);
    patient.send(Buffer.concat([ask('held'), ask('now'), ask('held'), ask('now')]));
    await inFlight(2);
    hasty.send(Buffer.concat([ask('held'), ask('held'), ask('held').subarray(0, -1)]));
    await inFlight(5);
    hasty.destroy();
    await inFlight(4);
    rude.send(frame('/v1/allow', 'x'.repeat(70_000)).subarray(0, -1));
    await rude.closed();
    await inFlight(4);
    for (const letGo of held.splice(0)) letGo();
    expect(await patient.answers(4)).to.have.length(4);
    patient.destroy();
    await inFlight(0);
  });

  it('answer 500 where a decision fails, say why to the log alone, once and without the client, and go on', async () => {
    for (const clientId of ['throws', 'rejects', 'unwritable']) {
      const single = await post(node, '/v1/allow', question(clientId));
      const requests = [question('now'), question(clientId), question('later')];
      const batch = await post(node, '/v1/allow/batch', { requests });
      for (const answer of [single, batch]) {
        expectProblem(answer, 'internal');
        expect(answer.text).not.to.include('secret');
      }
      expect((await post(node, '/v1/allow', question('now'))).status).to.equal(200);
    }
    expect(counters.problems.get('internal')).to.equal(6);
    expect(logged).to.have.length(6);
    for (const one of logged)
      expect(one).to.have.all.keys('err', 'message').and.to.include({ message: 'a decision failed' });
    expect(logged[0]).to.have.nested.property('err.message', 'secret of the house');
    await post(node, '/v1/allow', {});
    expect(logged, 'a mistake of the caller').to.have.length(6);
  });
});

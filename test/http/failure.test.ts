import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { Access } from '../../src/server/edge/access.js';
import { Api } from '../../src/server/http/api/api.js';
import { ClientCalls } from '../../src/server/edge/client-calls.js';
import { Counters } from '../../src/server/edge/counters.js';
import { systemClock, systemTimers } from '../../src/lib/system.js';
import { Turns } from '../../src/lib/turns.js';
import { NO_DECISIONS } from '../support/decisions.js';
import { call, expectProblem, type Answer } from '../support/http.js';

/** The answer of an API to a request, before it is closed. */
async function answerOf(parts: object, path: string, context: object): Promise<Answer> {
  const usual = {
    version: '1',
    maxInFlight: 10,
    cluster: {},
    context: {
      access: new Access({ required: [], tokens: [] }),
      counters: new Counters(),
      turns: new Turns({ timers: systemTimers, spent: () => systemClock.nowMs(), perTurn: 4 }),
      ...context,
    },
    decisions: NO_DECISIONS,
    auditTrail: { audit: () => undefined, recent: () => [] },
  };
  const api = new Api({ ...usual, ...parts } as unknown as ConstructorParameters<typeof Api>[0]);
  const server = createServer(api.answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const answer = await call({ port: (server.address() as AddressInfo).port }, path);
  server.close().closeAllConnections();
  return answer;
}

describe('the public API, over a cluster that fails', () => {
  it('answers 500, and says why to the log alone, without the client that the address names', async () => {
    const logged: object[] = [];
    const cluster = { admin: { describe: () => Promise.reject(new Error('secret of the house')) } };
    const log = { error: (fields: object) => void logged.push(fields) };
    const calls = new ClientCalls(cluster as never);
    const answer = await answerOf({ cluster, calls }, '/v1/clients/mallory', { log });
    expectProblem(answer, 'internal');
    expect(answer.text).not.to.include('secret');
    expect(logged).to.have.length(1);
    expect(logged[0]).to.include({ method: 'GET', route: '/v1/clients/:clientId' });
    expect(logged[0]).to.have.nested.property('err.message', 'secret of the house');
    expect(JSON.stringify(logged)).not.to.include('mallory');
  });
});

describe('the public API, asked for an address that is not there', () => {
  it('refuses in its turn, as any other answer', async () => {
    const turns: string[] = [];
    const run = (lane: string, work: () => void): void => {
      turns.push(lane);
      work();
    };
    expectProblem(await answerOf({}, '/nowhere', { turns: { run } }), 'not_found');
    expect(turns).to.deep.equal(['other']);
  });
});

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { createAccess } from '../../src/server/edge/access/access.js';
import { createApi } from '../../src/server/http/api/api.js';
import type { ApiDeps } from '../../src/server/http/api/api.js';
import { createCounters } from '../../src/server/edge/counters.js';
import { NO_DECISIONS } from '../support/decisions.js';
import { call, expectProblem } from '../support/http.js';

describe('the public API, over a cluster that fails', () => {
  it('answers 500, and says why to the log alone, without the client that the address names', async () => {
    const logged: object[] = [];
    const deps = {
      cluster: { describe: () => Promise.reject(new Error('secret of the house')) },
      access: createAccess({ required: [], tokens: [] }),
      decisions: NO_DECISIONS,
      auditTrail: { audit: () => undefined, recent: () => [] },
      counters: createCounters(),
      log: { error: (fields: object) => void logged.push(fields) },
    } as unknown as ApiDeps;
    const server = createServer(createApi(deps, { version: '1', maxInFlight: 10 })).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const answer = await call({ port: (server.address() as AddressInfo).port }, '/v1/clients/mallory');
    server.close().closeAllConnections();
    expectProblem(answer, 'internal');
    expect(answer.text).not.to.include('secret');
    expect(logged).to.have.length(1);
    expect(logged[0]).to.include({ method: 'GET', route: '/v1/clients/:clientId' });
    expect(logged[0]).to.have.nested.property('err.message', 'secret of the house');
    expect(JSON.stringify(logged)).not.to.include('mallory');
  });
});

import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { Access } from '../../src/server/edge/access.js';
import { Counters } from '../../src/server/edge/counters.js';
import { ServerContext, type NodeStage } from '../../src/server/edge/server-context.js';
import { DecisionEndpoints } from '../../src/server/http/decisions/handlers.js';
import { Health } from '../../src/server/http/health.js';
import { HttpServer } from '../../src/server/http/server.js';
import { post } from '../support/http.js';

describe('a node that has not joined the ring yet', () => {
  it('answers for its health and its metrics, and refuses all else with 503', async () => {
    let stage: NodeStage = 'joining';
    const counters = new Counters();
    const context = new ServerContext({
      limiter: {
        decide: ({ items }) => {
          for (const item of items) item.record(ALLOWED, { owner: 'a:1', source: 'owner', degraded: false });
          return undefined;
        },
      },
      access: new Access({ required: [], tokens: [] }),
      counters,
      stage: () => stage,
      elapsedMs: () => 0,
      log: { error: (fields) => expect.fail(JSON.stringify(fields)) },
      maxInFlight: 1,
    });
    const httpServer = new HttpServer({
      context,
      decisions: new DecisionEndpoints(context, 429),
      api: (_req: unknown, res: ServerResponse) => void res.end('answered'),
      health: new Health(counters, () => undefined),
    });
    httpServer.server.listen(0, '127.0.0.1');
    await once(httpServer.server, 'listening');
    const { port } = httpServer.server.address() as AddressInfo;
    const status = async (path: string): Promise<number> => (await fetch(`http://127.0.0.1:${port}${path}`)).status;
    const allow = async (): Promise<number> =>
      (await post({ port }, '/v1/allow', { clientId: 'alice', limit: 1, window: '1m' })).status;
    expect(await allow()).to.equal(503);
    for (const path of ['/v1/check/envoy', '/v1/clients/alice', '/v1/policies', '/healthzz'])
      expect(await status(path), path).to.equal(503);
    expect(counters.problems.get('unavailable')).to.equal(5);
    for (const path of ['/healthz', '/readyz', '/readyz?verbose', '/metrics'])
      expect(await status(path), path).to.equal(200);
    stage = 'ready';
    expect(await allow()).to.equal(200);
    expect(await status('/v1/clients/alice')).to.equal(200);
    await httpServer.drain(0, 0);
  });
});

const ALLOWED = { allowed: true, limit: 1, remaining: 0, retryAfterMs: 0, resetMs: 60_000, limits: undefined };

import { expect } from 'chai';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Counters } from '../../src/server/edge/counters.js';
import { OnceJoined } from '../../src/server/http/once-joined.js';

const done = (_req: IncomingMessage, res: ServerResponse): void => void res.end('answered');

describe('a node that has not joined the ring yet', () => {
  it('answers for its health and its metrics, and refuses all else with 503', async () => {
    let hasJoined = false;
    const counters = new Counters();
    const joined = new OnceJoined(counters, () => hasJoined);
    const { allow } = joined.decisions({
      allow: done,
      batch: done,
      check: { nginx: done, forwardAuth: done, envoy: done },
    });
    const api = joined.api(done);
    const server = createServer((req, res) => (req.url === '/v1/allow' ? allow(req, res) : api(req, res)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const status = async (path: string): Promise<number> => (await fetch(`http://127.0.0.1:${port}${path}`)).status;
    for (const path of ['/v1/allow', '/v1/clients/alice', '/v1/policies', '/healthzz']) {
      expect(await status(path), path).to.equal(503);
    }
    expect(counters.problems.get('unavailable')).to.equal(4);
    for (const path of ['/healthz', '/readyz', '/readyz?verbose', '/metrics']) {
      expect(await status(path), path).to.equal(200);
    }
    hasJoined = true;
    for (const path of ['/v1/allow', '/v1/clients/alice']) expect(await status(path), path).to.equal(200);
    server.close();
  });
});

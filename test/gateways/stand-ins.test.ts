import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { documentedApisix, documentedEnvoy, documentedTraefik } from './documented.js';
import { startLimiter, startService, type Service } from './stage.js';
import { startApisix, startEnvoy, startTraefik, type ApisixConfiguration, type StandIn } from './stand-ins.js';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

describe('gateways as docs/gateways.md configures them, by stand-ins', () => {
  let node: RunningNode;
  let service: Service;
  const started: StandIn[] = [];
  beforeEach(async () => {
    node = await startLimiter({ api: { limit: 3, window: '1d' } });
    service = await startService();
  });
  afterEach(async () => {
    for (const standIn of started.splice(0)) await standIn.stop();
    await service.stop();
    await node.stop();
  });

  async function traefik(to: { port: number }, more: { preserveRequestMethod?: boolean } = {}): Promise<StandIn> {
    const { path, ...documented } = documentedTraefik();
    const standIn = await startTraefik({ ...documented, ...more, address: { port: to.port, path } }, service);
    started.push(standIn);
    return standIn;
  }
  async function envoy(to: { port: number }): Promise<StandIn> {
    const standIn = await startEnvoy({ ...documentedEnvoy(), port: to.port }, service);
    started.push(standIn);
    return standIn;
  }

  async function apisix(to: { port: number }, more: Partial<ApisixConfiguration> = {}): Promise<StandIn> {
    const documented = documentedApisix();
    const uri = documented.uri.replace('8080', String(to.port));
    const standIn = await startApisix({ ...documented, ...more, uri }, service);
    started.push(standIn);
    return standIn;
  }

  for (const [name, start] of [
    ['Traefik', traefik],
    ['Envoy', envoy],
    ['APISIX', apisix],
  ] as const) {
    it(`${name} lets pass what the policy allows, by address, then answers 429 with what is left and no word of the nodes`, async () => {
      const gateway = await start(node);
      for (let i = 0; i < 3; i += 1)
        expect(await call(gateway, '/a', { headers: { authorization: 'Bearer of-a-user' } })).to.include({
          status: 200,
          text: 'hello',
        });
      const { status, headers, text, json } = await call(gateway, '/a');
      expect(status).to.equal(429);
      expect(headers).to.include({ 'retry-after': '28800', 'ratelimit-policy': '"api";q=3;w=86400' });
      expect(json).to.include({ allowed: false, limit: 3, remaining: 0 });
      expect(text).not.to.include('127.0.0.1');
      expect(service.requests).to.have.length(3);
      expect((await allow(node, { clientId: '127.0.0.1', policy: 'api', peek: true })).allowed).to.equal(false);
    });
  }

  for (const [name, start] of [
    ['Traefik', traefik],
    ['Envoy', envoy],
    ['APISIX', apisix],
  ] as const) {
    it(`${name} lets exactly the limit pass under load, whatever callers claim`, async () => {
      await node.stop();
      node = await startLimiter({ api: { limit: 100, window: '1d' }, lenient: { limit: 1_000, window: '1d' } });
      const gateway = await start(node);
      const ask = async (i: number): Promise<number> => {
        const address = `10.0.0.${i % 250}`;
        const claims = { 'x-forwarded-for': address, 'x-real-ip': address, 'x-client-id': address };
        const headers = { ...claims, 'x-tokenring-client': address, 'x-tokenring-policy': 'lenient' };
        return (await call(gateway, '/', { headers })).status;
      };
      const statuses = await Promise.all(Array.from({ length: 300 }, (_, i) => ask(i)));
      expect(statuses.filter((status) => status === 200)).to.have.length(100);
      expect(statuses.filter((status) => status === 429)).to.have.length(200);
      expect(service.requests).to.have.length(100);
    });
  }

  it('APISIX answers 503 while no node answers, or lets pass if it is told so', async () => {
    expect(documentedApisix()).to.include({ status_on_error: 503, timeout: 1_000 });
    expect(documentedApisix()).not.to.have.property('request_headers');
    const gone = { port: await freePort() };
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    for (const to of [gone, silent.address() as AddressInfo]) {
      expect((await call(await apisix(to), '/')).status).to.equal(503);
      expect((await call(await apisix(to, { allow_degradation: true }), '/')).status).to.equal(200);
    }
    silent.close().closeAllConnections();
    expect(service.requests).to.have.length(2);
  });

  it('Envoy shows what is left to those that it lets pass', async () => {
    const { headers } = await call(await envoy(node), '/');
    expect(headers).to.include({ 'ratelimit-policy': '"api";q=3;w=86400' });
    expect(headers['ratelimit']).to.match(/^"api";r=2;/);
  });

  it('Envoy may ask with each method and path, and Traefik with each method', async () => {
    await node.stop();
    node = await startLimiter({ api: { limit: 1_000, window: '1d' } });
    const gateways = [await envoy(node), await traefik(node, { preserveRequestMethod: true })];
    for (const gateway of gateways) {
      for (const method of METHODS) {
        for (const path of ['/', '/a?b=c', '//x', '/%zz', '/../v1/allow', '/a;b'])
          expect((await call(gateway, path, { method })).status, `${method} ${path}`).to.equal(200);
      }
    }
  });

  it('a node without the policy lets nothing pass, and says why', async () => {
    const other = await startLimiter({ another: { limit: 3, window: '1d' } });
    for (const start of [traefik, envoy, apisix]) {
      const { status, json } = await call(await start(other), '/');
      expect(status).to.equal(400);
      expect(json).to.include({ code: 'unknown_policy', field: 'X-Tokenring-Policy' });
    }
    await other.stop();
    expect(service.requests).to.have.length(0);
  });
});

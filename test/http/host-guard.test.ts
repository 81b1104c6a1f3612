import { expect } from 'chai';
import { HostGuard } from '../../src/server/http/host-guard.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, expectProblem, liveNode, newClient } from '../support/http.js';
import { exchange } from './wire.js';

const JSON_TYPE = 'Content-Type: application/json\r\n';

describe('the names and sites that a node answers', () => {
  const loopback = new HostGuard({
    host: '127.0.0.1',
    allowedHosts: ['Ring.Example', '[2001:DB8::1]'],
    publicUrl: 'https://limits.example:8443',
  });

  it('on loopback, are loopback itself, the public address, and those that are configured, at any port', () => {
    const own = [
      'localhost',
      'LocalHost:8080',
      'localhost.',
      'node-1.localhost:9',
      '127.0.0.1:8080',
      '127.8.9.1',
      '[::1]',
    ];
    const named = ['ring.example', 'RING.example.:80', 'limits.example', 'limits.example:1', '[2001:db8:0::1]:8080'];
    for (const host of [...own, '[0:0:0:0:0:0:0:1]:8080', ...named])
      expect(loopback.acceptsHost(host), host).to.equal(true);
  });

  it('are no others', () => {
    const similar = [
      'localhost.example',
      'xlocalhost',
      '127.0.0.1.nip.example',
      'a@127.0.0.1',
      '127.0.0.1@a',
      'x.ring.example',
    ];
    const broken = ['', ':8080', '[::1', '127.0.0.1:', '127.0.0.1:x', '127.0.0.1/a', 'localhost, a', '127.0.0.1:99999'];
    const foreign = ['rebind.test', '10.0.0.1', '0.0.0.0', '[::2]', 'ring.example.org'];
    for (const host of [...similar, ...broken, ...foreign]) {
      expect(loopback.acceptsHost(host), host).to.equal(false);
      expect(loopback.acceptsHost('localhost:8080')).to.equal(true);
    }
  });

  it('are all where the node listens to others, or where every name is allowed', () => {
    for (const host of ['0.0.0.0', '10.0.0.1', 'node-1'])
      expect(new HostGuard({ host, allowedHosts: [] }).acceptsHost('rebind.test'), host).to.equal(true);
    expect(new HostGuard({ host: 'localhost', allowedHosts: ['*'] }).acceptsHost('rebind.test')).to.equal(true);
    expect(new HostGuard({ host: '::1', allowedHosts: [], publicUrl: 'none' }).acceptsHost('rebind.test')).to.equal(
      false,
    );
  });

  const refused = (
    sites: HostGuard,
    headers: { host?: string; origin?: string },
    url = '/v1/top',
  ): string | undefined => sites.refusalOf({ url, headers }, false)?.code;

  it('let pages of the same address ask, also behind a proxy that ends TLS', () => {
    const table = [
      ['localhost:8080', 'http://localhost:8080'],
      ['localhost', 'http://localhost:80'],
      ['[::1]:8080', 'http://[::1]:8080'],
      ['ring.example', 'https://ring.example'],
      ['ring.example:443', 'https://ring.example'],
      ['127.0.0.1:8080', 'https://limits.example:8443'],
      ['127.0.0.1:8080', 'https://ring.example:444'],
    ] as const;
    for (const [host, origin] of table) expect(refused(loopback, { host, origin }), origin).to.equal(undefined);
  });

  it('let no other page ask, wherever the node listens', () => {
    const host = 'localhost:8080';
    const ports = ['http://localhost:3000', 'http://localhost', 'https://localhost', 'http://127.0.0.1:8080'];
    const others = [
      'null',
      '',
      'http://rebind.test:8080',
      'https://limits.example',
      'file://',
      'http://localhost:8080/',
    ];
    const odd = ['chrome-extension://localhost:8080', 'http://a@localhost:8080', 'http://localhost:8080 http://a'];
    for (const sites of [loopback, new HostGuard({ host: '0.0.0.0', allowedHosts: [] })])
      for (const origin of [...ports, ...others, ...odd])
        expect(refused(sites, { host, origin }), origin).to.equal('foreign_origin');
    expect(refused(loopback, { origin: 'http://localhost' })).to.equal('foreign_origin');
  });

  it('count by the host of a whole URL, too', () => {
    const host = 'localhost:8080';
    expect(refused(loopback, { host }, 'http://localhost:8080/v1/top')).to.equal(undefined);
    expect(refused(loopback, { host }, 'http://rebind.test/v1/top')).to.equal('foreign_host');
    expect(refused(loopback, { host }, 'HTTP://rebind.test?/v1/top')).to.equal('foreign_host');
  });
});

describe('a node on loopback', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });

  /** Asks for a token of a client in the plainest form, in one packet or so that node:http reads it. */
  async function ask(clientId: string, head: string, kind: 'direct' | 'node:http' = 'direct'): Promise<string> {
    const body = JSON.stringify({ clientId, limit: 3, window: '1d' });
    const rest = kind === 'direct' ? '' : 'X-Other: 1\r\nConnection: close\r\n';
    const text = `POST /v1/allow HTTP/1.1\r\n${head}${JSON_TYPE}${rest}Content-Length: ${body.length}\r\n\r\n${body}`;
    const bye = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
    const [answer] = await exchange(node.port, kind === 'direct' ? text + bye : text);
    return answer!.status === 403
      ? expectProblem(answer!, (answer!.json as { code: 'foreign_host' }).code).code
      : 'asked';
  }

  it('spends nothing of a client for a page whose name was given its address, read in either way', async () => {
    const clientId = newClient();
    for (const kind of ['direct', 'node:http'] as const) {
      expect(await ask(clientId, `Host: rebind.test:${node.port}\r\n`, kind)).to.equal('foreign_host');
      const host = `Host: 127.0.0.1:${node.port}\r\n`;
      for (const origin of [`http://rebind.test:${node.port}`, 'null', 'http://127.0.0.1:3000'])
        expect(await ask(clientId, `${host}Origin: ${origin}\r\n`, kind), origin).to.equal('foreign_origin');
    }
    expect(await allow(node, { clientId, limit: 3, window: '1d', peek: true })).to.include({ remaining: 3 });
    expect(await ask(clientId, `Host: 127.0.0.1:${node.port}\r\nOrigin: http://127.0.0.1:${node.port}\r\n`)).to.equal(
      'asked',
    );
  });

  it('says which header it refuses, and the setting that allows it', async () => {
    const host = expectProblem(
      await call(node, '/v1/top', { headers: { host: 'rebind.test' } }),
      'foreign_host',
      'Host',
    );
    expect(host.detail).to.include('TOKENRING_ALLOWED_HOSTS');
    const foreign = await call(node, '/v1/top', { headers: { origin: 'http://a.test' } });
    expect(expectProblem(foreign, 'foreign_origin', 'Origin').detail).to.include('TOKENRING_ALLOWED_HOSTS');
  });

  it('refuses both by every method, at every path', async () => {
    const paths = [
      '/',
      '/healthz',
      '/metrics',
      '/dashboard',
      '/docs',
      '/openapi.json',
      '/v1/allow',
      '/v1/allow/batch',
      '/x',
    ];
    for (const path of [...paths, '/v1/clients/x', '/v1/policies/x', '/v1/events', '/v1/settle']) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS']) {
        const at = `${method} ${path}`;
        expectProblem(await call(node, path, { method, headers: { host: 'rebind.test' } }), 'foreign_host');
        const answer = await call(node, path, { method, headers: { origin: 'http://rebind.test' } });
        expect(answer.headers, at).not.to.have.property('access-control-allow-origin');
        expectProblem(answer, 'foreign_origin');
      }
    }
  });

  it('hears a gateway that passes on the Origin of its callers, but not under a foreign name', async () => {
    const headers = { 'x-tokenring-client': newClient(), 'x-tokenring-policy': 'none', origin: 'https://shop.example' };
    for (const path of ['/v1/check/nginx', '/v1/check/traefik', '/v1/check/envoy/cart']) {
      expectProblem(await call(node, path, { headers }), 'unknown_policy');
      expectProblem(await call(node, path, { headers: { ...headers, host: 'rebind.test' } }), 'foreign_host');
    }
  });

  it('refuses several hosts of any version, and needs none of HTTP/1.0', async () => {
    const twice = 'Host: localhost\r\nHost: rebind.test\r\nConnection: close\r\n\r\n';
    for (const version of ['1.0', '1.1']) {
      const [answer] = await exchange(node.port, `GET /healthz HTTP/${version}\r\n${twice}`);
      expectProblem(answer!, 'invalid_request', 'Host');
    }
    const [old] = await exchange(node.port, 'GET /healthz HTTP/1.0\r\n\r\n');
    expect(old!.status).to.equal(200);
  });
});

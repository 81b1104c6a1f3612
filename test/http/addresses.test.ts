import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { call, expectProblem, liveNode, post } from '../support/http.js';

describe('the public API', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });

  it('says at /healthz that it serves, and at /readyz that it is ready', async () => {
    expect(await call(node, '/healthz')).to.include({ status: 200, text: 'ok\n' });
    expect(await call(node, '/readyz')).to.include({ status: 200, text: 'ready\n' });
    for (const path of ['/healthz', '/readyz']) {
      expect(await call(node, path, { method: 'HEAD' })).to.include({ status: 200, text: '' });
    }
  });

  it('has nothing at other addresses', async () => {
    const paths = [
      '/',
      '/v1',
      '/v1/allow/batch/x',
      '/v2/allow',
      '/metrics/x',
      '/../etc/passwd',
      '/v1/clients',
      '/.env',
      '//healthz',
      '/__proto__',
      '/constructor',
    ];
    for (const path of paths) {
      expectProblem(await call(node, path), 'not_found');
      expectProblem(await post(node, path, {}), 'not_found');
      expect(await call(node, path, { method: 'HEAD' })).to.include({ status: 404, text: '' });
    }
  });

  it('says which methods an address takes', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics', '/openapi.json']) {
      for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) {
        const answer = await call(node, path, { method });
        expectProblem(answer, 'method_not_allowed');
        expect(answer.headers['allow']).to.equal('GET, HEAD');
      }
    }
  });

  it('lets nobody keep an answer, and answers in full whatever the asker has kept', async () => {
    const conditions = { 'if-none-match': '*', 'if-modified-since': 'Fri, 01 Jan 2100 00:00:00 GMT' };
    for (const path of [
      '/healthz',
      '/readyz',
      '/metrics',
      '/v1/cluster',
      '/v1/cluster/owner?clientId=x',
      '/v1/clients/x',
      '/openapi.json',
    ]) {
      for (const method of ['GET', 'HEAD']) {
        const { status, headers } = await call(node, path, { method, headers: conditions });
        expect(status, path).to.equal(200);
        expect(headers['cache-control'], path).to.equal('no-store');
      }
    }
    expect((await call(node, '/nowhere')).headers['cache-control']).to.equal('no-store');
  });

  it('lets no browser guess at a content type, and does not say what it is made of', async () => {
    for (const path of ['/healthz', '/metrics', '/openapi.json', '/nowhere', '/v1/clients/x', '/v1/clients/%']) {
      const { headers } = await call(node, path);
      expect(headers['x-content-type-options'], path).to.equal('nosniff');
      expect(headers, path).not.to.have.any.keys('x-powered-by', 'server', 'etag');
    }
    const { headers } = await post(node, '/v1/allow', { clientId: 'x', limit: 0, window: 1 });
    expect(headers).not.to.have.any.keys('x-powered-by', 'server', 'etag');
  });

  it('lets no browser run, load or frame what it answers', async () => {
    for (const path of ['/healthz', '/metrics', '/openapi.json', '/v1/cluster', '/nowhere', '/v1/clients/%']) {
      const { headers } = await call(node, path);
      expect(headers, path).to.include({
        'content-security-policy': "default-src 'none';frame-ancestors 'none'",
        'x-frame-options': 'SAMEORIGIN',
        'referrer-policy': 'no-referrer',
        'cross-origin-resource-policy': 'same-origin',
        'cross-origin-opener-policy': 'same-origin',
      });
      // A browser would take it for every port of this host.
      expect(headers, path).not.to.have.any.keys('strict-transport-security', 'access-control-allow-origin');
    }
  });
});

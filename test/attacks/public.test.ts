import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { digestOf } from '../../src/server/edge/access.js';
import type { RunningNode } from '../../src/app/main.js';
import { encodeMessage } from '../support/wire.js';
import { killAll, tokenring } from '../e2e/processes.js';
import { connect, exchange, frame, JSON_CLOSE } from '../http/wire.js';
import { allow, call, expectProblem, liveNode, newClient, post } from '../support/http.js';
import {
  frame as peerFrame,
  offerHeaders,
  openRawLink,
  SENDER,
  sendRaw,
  until,
  upgradeRequest,
} from '../peer/support.js';
import { envelope, memberOf, SECRET } from './ring.js';

/** Ids and names that are more than names to something on their way. */
const TREACHEROUS = [
  'x\r\nSet-Cookie: admin=1\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello',
  'x\n{"level":50,"msg":"all is lost"}',
  'x"} 1\ntokenring_owned_total{by="mallory"} 1e9\n#',
  '\u001b[2J\u001b]0;owned\u0007',
  '\u009b2J',
  '\u2028\u2029\u202e\u2066',
  '\0',
  '<script>alert(1)</script>',
  '../../etc/passwd',
  '${jndi:ldap://x}',
  '__proto__',
];

describe('attacks on the public port', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--peer-secret', SECRET);
  });

  it('no peer is heard there, whatever it proves', async () => {
    const headers = offerHeaders({ secret: SECRET });
    for (const path of ['/peer', '//peer', '/v1/../peer', '/peer/']) {
      expectProblem(await call(node, path, { headers }), 'not_found');
      expect((await sendRaw(node.port, upgradeRequest(headers, path))).status).to.equal(404);
    }
    // Nor is the peer secret a token.
    expectProblem(
      await call(node, '/v1/clients/x', { method: 'DELETE', headers: { authorization: `Bearer ${SECRET}` } }),
      'forbidden',
    );
    expectProblem(await call(node, '/v1/clients/x', { method: 'DELETE', headers }), 'forbidden');
  });

  it('no header makes a request another client’s, another method, another address or another node’s', async () => {
    const clientId = newClient();
    const question = JSON.stringify({ clientId, limit: 1, window: '1d' });
    const pretend: Record<string, string> = {
      'x-forwarded-for': '203.0.113.7',
      'x-real-ip': '203.0.113.7',
      forwarded: 'for=203.0.113.7',
      'x-client-id': 'another',
      'x-tokenring-client': 'another',
      'x-http-method-override': 'DELETE',
      'x-original-url': '/healthz',
      'x-rewrite-url': '/healthz',
      'tokenring-from': '127.0.0.1:9080',
      host: 'another.localhost',
    };
    const ask = (headers: Record<string, string>): ReturnType<typeof call> =>
      call(node, '/v1/allow', {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: question,
      });
    expect((await ask({})).status).to.equal(200);
    for (const [name, value] of Object.entries(pretend)) {
      const answer = await ask({ [name]: value });
      expect({ status: answer.status, allowed: (answer.json as { allowed: boolean }).allowed }, name).to.deep.equal({
        status: 429,
        allowed: false,
      });
    }
    expect((await ask(pretend)).status).to.equal(429);
  });

  it('no id splits an answer, or puts a header into it', async () => {
    for (const clientId of TREACHEROUS) {
      const asks = { clientId, limit: 1, window: '1d', requestId: clientId };
      const encoded = encodeURIComponent(clientId);
      const requests = [
        frame('/v1/allow', JSON.stringify(asks), { headers: JSON_CLOSE }),
        frame('/v1/allow', JSON.stringify({ ...asks, requestId: `${clientId}2` }), { headers: JSON_CLOSE }),
        frame('/v1/allow', JSON.stringify({ ...asks, policy: clientId }), { headers: JSON_CLOSE }),
        frame('/v1/allow', JSON.stringify({ [clientId]: 1 }), { headers: JSON_CLOSE }),
        frame('/v1/allow/batch', JSON.stringify({ requests: [asks, { [clientId]: 1 }] }), { headers: JSON_CLOSE }),
        frame(`/v1/clients/${encoded}`, '', { method: 'GET', headers: 'Connection: close\r\n' }),
        frame(`/v1/cluster/owner?clientId=${encoded}`, '', { method: 'GET', headers: 'Connection: close\r\n' }),
        frame(`/${encoded}`, '', { method: 'GET', headers: 'Connection: close\r\n' }),
        frame('/healthz', '', { method: 'GET', headers: `Connection: close\r\nX-Id: ${encoded}\r\n` }),
        frame(`/v1/check/envoy/${encoded}`, '', { method: 'GET', headers: 'Connection: close\r\n' }),
        // Those that a header can carry; the node has no policy of this name.
        ...['X-Tokenring-Client', 'X-Tokenring-Policy', 'X-Tokenring-Client-From', 'X-Tokenring-Cost'].map((name) => {
          const value = Buffer.from(clientId.replaceAll(/[\r\n\0]/g, ' ')).toString('latin1');
          const asks = ['X-Tokenring-Client', 'X-Tokenring-Policy'].map(
            (one) => `${one}: ${one === name ? value : 'x'}\r\n`,
          );
          const more = asks.join('').includes(name) ? '' : `${name}: ${value}\r\n`;
          return frame('/v1/check/traefik', '', {
            method: 'GET',
            headers: `Connection: close\r\n${asks.join('')}${more}`,
          });
        }),
      ];
      for (const request of requests) {
        const answers = await exchange(node.port, request);
        expect(answers, JSON.stringify(clientId)).to.have.length(1);
        expect(answers[0]!.headers).not.to.have.any.keys('set-cookie');
        for (const [name, value] of Object.entries(answers[0]!.headers))
          expect(`${name}: ${String(value)}`).to.match(/^[ -~]*$/);
        // What a browser might take for a page says that it is none.
        expect(answers[0]!.headers['content-type']).to.match(/^(application\/(problem\+)?json|text\/plain)/);
      }
    }
  });

  it('no name of a policy does either: one that could is refused', async () => {
    const admin = await liveNode('--admin-token', 'admin');
    const headers = { authorization: 'Bearer admin', 'content-type': 'application/json' };
    for (const name of [
      ...TREACHEROUS.filter((one) => one !== '__proto__' && !one.includes('/')),
      'x"',
      'x;q=9',
      'x,y',
    ]) {
      const body = '{"limit":1,"window":"1m"}';
      expectProblem(
        await call(admin, `/v1/policies/${encodeURIComponent(name)}`, { method: 'PUT', headers, body }),
        'invalid_request',
        'name',
      );
    }
  });

  it('no id gets into a metric, as a label or otherwise', async () => {
    const before = (await call(node, '/metrics')).text;
    for (const clientId of TREACHEROUS)
      await post(node, '/v1/allow', { clientId: `label:${clientId}`, limit: 1, window: '1d', policy: clientId });
    for (const clientId of TREACHEROUS) await allow(node, { clientId: `label:${clientId}`, limit: 1, window: '1d' });
    const { text } = await call(node, '/metrics');
    const series = (all: string): string[] =>
      [...all.matchAll(/^(tokenring_\S+) /gm)].map((match) => match[1]!).filter((name) => !name.includes('code='));
    expect(series(text)).to.deep.equal(series(before));
    expect(text).not.to.include('mallory').and.not.to.include('label:').and.not.to.include('<script');
  });
});

describe('what a node says', function () {
  this.timeout(60_000);
  after(killAll);

  const PEER_SECRET = 'peer-secret-that-nobody-sees';
  const ADMIN_TOKEN = 'admin-token-that-nobody-sees';
  const LISTED_TOKEN = 'listed-token-that-nobody-sees';
  const STORE_PASSWORD = 'store-password-that-nobody-sees';

  it('holds no secret, and no line that somebody else has written: logs, errors, metrics and the cluster', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-attack-'));
    const tokens = join(folder, 'tokens.json');
    const digest = digestOf(LISTED_TOKEN).toString('hex');
    writeFileSync(
      tokens,
      JSON.stringify({ require: ['read'], tokens: [{ name: 'listed', roles: ['admin'], sha256: digest }] }),
    );
    const flags = ['--port', '0', '--peer-port', '0', '--log-level', 'trace', '--tokens', tokens];
    const program = tokenring(['serve', ...flags], {
      TOKENRING_PEER_SECRET: PEER_SECRET,
      TOKENRING_ADMIN_TOKEN: ADMIN_TOKEN,
      // Nobody listens there.
      TOKENRING_STORE: `redis://user:${STORE_PASSWORD}@127.0.0.1:1`,
    });
    const { port, node: self } = (await program.line('tokenring ready')) as { port: number; node: string };
    const node = { port };
    const peerPort = Number(self.slice(self.lastIndexOf(':') + 1));
    const said: string[] = [];
    const credentials = [ADMIN_TOKEN, LISTED_TOKEN, `${ADMIN_TOKEN}x`, PEER_SECRET];
    for (const credential of credentials) {
      const headers = { authorization: `Bearer ${credential}` };
      for (const path of ['/v1/cluster', '/metrics', '/v1/clients/x', '/openapi.json', '/nowhere', '/v1/policies']) {
        const { text, headers: answered } = await call(node, path, { headers });
        said.push(text, JSON.stringify(answered));
      }
    }
    const link = await openRawLink(peerPort, PEER_SECRET);
    for (const clientId of TREACHEROUS) {
      const headers = { authorization: `Bearer ${ADMIN_TOKEN}`, 'content-type': 'application/json' };
      const body = JSON.stringify({ clientId, limit: 1, window: '1d' });
      said.push((await call(node, '/v1/allow', { method: 'POST', headers, body })).text);
      said.push((await call(node, `/v1/clients/${encodeURIComponent(clientId)}`, { method: 'DELETE', headers })).text);
      said.push((await sendRaw(peerPort, upgradeRequest({ 'tokenring-node': encodeURIComponent(clientId) }))).body);
      said.push((await sendRaw(peerPort, `${clientId}\r\n\r\n`)).body);
      link.socket.write(link.seal(peerFrame(1, Buffer.from(clientId))));
      const wire = await connect(port);
      wire.send(`${clientId}\r\n\r\n`);
      wire.end();
      said.push(...(await wire.closed()).map(({ text }) => text));
    }
    const evil = envelope(
      { kind: 'heartbeat', members: [] },
      memberOf(SENDER.from.id, { version: '\u001b[2J', state: 'left' }),
    );
    link.socket.write(link.seal(peerFrame(2, encodeMessage(evil))));
    await until(() => link.answers.size === 2, 'both messages to be answered');
    link.socket.destroy();
    program.child.kill('SIGTERM');
    const { stdout, stderr, code } = await program.ended;
    rmSync(folder, { recursive: true });
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });

    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.filter((line) => line['audit'] === true)).to.have.length(TREACHEROUS.length);
    expect(lines.map((line) => line['target']).filter(Boolean)).to.deep.equal(TREACHEROUS);
    for (const { node: by, msg } of lines) {
      expect([self, undefined]).to.include(by);
      expect(msg).not.to.equal('all is lost');
    }
    expect(stdout).to.match(/^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$/);
    for (const text of [stdout, ...said]) {
      for (const secret of [
        PEER_SECRET,
        STORE_PASSWORD,
        ADMIN_TOKEN,
        LISTED_TOKEN,
        digest,
        digestOf(ADMIN_TOKEN).toString('hex'),
      ])
        expect(text).not.to.include(secret);
    }
  });
});

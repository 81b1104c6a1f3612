import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { digestOf } from '../../src/server/edge/access.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, expectProblem, expectShape, liveNode, newClient, type Answer } from '../support/http.js';
import { GatewayDecisionSchema } from '../../src/server/validate/schema.js';
import { CLOSE, exchange, frame } from './wire.js';

const TOKEN = 'the-admin-token';
const GATEWAYS = ['nginx', 'forward-auth', 'traefik', 'envoy'] as const;
type Gateway = (typeof GATEWAYS)[number];
const DENIED: Record<Gateway, number> = { nginx: 403, 'forward-auth': 429, traefik: 429, envoy: 429 };

async function setPolicies(node: RunningNode, policies: Record<string, object>): Promise<void> {
  const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
  for (const [name, policy] of Object.entries(policies)) {
    const sent = { method: 'PUT', headers, body: JSON.stringify(policy) };
    expect((await call(node, `/v1/policies/${name}`, sent)).status).to.equal(200);
  }
}

describe('GET /v1/check/nginx, /forward-auth, /traefik and /envoy', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--admin-token', TOKEN);
    await setPolicies(node, {
      gate: { limit: 3, window: '1d' },
      'gate-once': { limit: 1, window: '1d' },
      'gate-never': { limit: 0, window: '1d' },
      'gate-trial': { limit: 1, window: '1d', shadow: true },
      'gate-two': {
        limits: [
          { limit: 2, window: '1h' },
          { limit: 5, window: '1d' },
        ],
      },
    });
  });

  const check = (gateway: Gateway, headers: Record<string, string>, to = node, method = 'GET'): Promise<Answer> =>
    call(to, `/v1/check/${gateway}`, { method, headers });
  const asked = (clientId: string, policy = 'gate'): Record<string, string> => ({
    'X-Tokenring-Client': clientId,
    'X-Tokenring-Policy': policy,
  });
  /** Sends header lines as they are. */
  async function raw(lines: string, path = '/v1/check/traefik', method = 'GET'): Promise<Answer> {
    const answers = await exchange(node.port, frame(path, '', { method, headers: CLOSE + lines }));
    expect(answers).to.have.length(1);
    return answers[0]!;
  }
  const LINES = 'X-Tokenring-Policy: gate\r\n';

  for (const gateway of GATEWAYS) {
    it(`${gateway}: lets pass what the policy allows, and denies the rest with ${DENIED[gateway]}, with the headers of /v1/allow`, async () => {
      const clientId = newClient();
      for (const remaining of [2, 1, 0]) {
        const { status, headers } = await check(gateway, asked(clientId));
        expect(status).to.equal(200);
        expect(headers).to.include({ 'ratelimit-policy': '"gate";q=3;w=86400', 'cache-control': 'no-store' });
        expect(headers['ratelimit']).to.match(new RegExp(`^"gate";r=${remaining};t=\\d+$`));
        expect(headers).not.to.have.property('retry-after');
      }
      const denied = await check(gateway, asked(clientId));
      expect(denied.status).to.equal(DENIED[gateway]);
      expect(denied.headers).to.include({ 'retry-after': '28800', 'cache-control': 'no-store' });
      expect(denied.headers['ratelimit']).to.match(/^"gate";r=0;t=\d+$/);
      // The same bucket as that of who asks for itself.
      expect((await allow(node, { clientId, policy: 'gate', peek: true })).remaining).to.equal(0);
    });
  }

  it('say nothing to nginx, which would hang up for it, and to the others what their callers may see', async () => {
    for (const gateway of GATEWAYS) {
      const clientId = newClient();
      const answers = [
        await check(gateway, asked(clientId, 'gate-once')),
        await check(gateway, asked(clientId, 'gate-once')),
      ];
      expect(answers.map(({ status }) => status)).to.deep.equal([200, DENIED[gateway]]);
      for (const { text, json, headers } of answers) {
        if (gateway === 'nginx')
          expect({ text, length: headers['content-length'] }).to.deep.equal({ text: '', length: '0' });
        else expectShape(GatewayDecisionSchema, json);
      }
      if (gateway !== 'nginx')
        expect(answers.map(({ json }) => (json as { allowed: boolean }).allowed)).to.deep.equal([true, false]);
    }
  });

  it('deny with their own status where that of a denial is 200, which a gateway would let pass', async () => {
    const lenient = await liveNode('--admin-token', TOKEN, '--denied-status', '200');
    await setPolicies(lenient, { 'gate-never': { limit: 0, window: '1d' } });
    for (const gateway of GATEWAYS)
      expect((await check(gateway, asked('x', 'gate-never'), lenient)).status).to.equal(DENIED[gateway]);
  });

  it('take the scope from a header: the client is the same, the bucket is another', async () => {
    const clientId = newClient();
    for (const gateway of GATEWAYS) {
      const scoped = { ...asked(clientId), 'X-Tokenring-Scope': `reports of ${gateway}` };
      expect((await check(gateway, scoped)).headers['ratelimit']).to.match(/^"gate";r=2;/);
    }
    expect((await check('envoy', asked(clientId))).headers['ratelimit']).to.match(/^"gate";r=2;/);
  });

  it('take the cost from a header, several limits, and a policy on trial', async () => {
    const clientId = newClient();
    const costs = { ...asked(clientId), 'X-Tokenring-Cost': '2' };
    expect((await check('envoy', costs)).headers['ratelimit']).to.match(/^"gate";r=1;/);
    expect((await check('envoy', costs)).status).to.equal(429);
    const two = await check('traefik', asked(clientId, 'gate-two'));
    expect(two.headers['ratelimit-policy']).to.equal('"1h";q=2;w=3600, "1d";q=5;w=86400');
    const trial = asked(clientId, 'gate-trial');
    for (let i = 0; i < 3; i += 1) expect((await check('nginx', trial)).status).to.equal(200);
    expect((await check('nginx', asked(clientId, 'gate-never'))).headers).not.to.have.property('retry-after');
  });

  it('take ids as they come, in UTF-8: nothing is decoded, joined or split', async () => {
    const ids = [
      'a%20b',
      'a b',
      'a,b',
      'CN=a, O=b',
      'Zoë €😀',
      '__proto__',
      'constructor',
      '"quoted"',
      'a\tb',
      'é'.repeat(128),
    ];
    for (const clientId of ids) {
      const { status } = await raw(`${LINES}X-Tokenring-Client: ${Buffer.from(clientId).toString('latin1')}\r\n`);
      expect(status, clientId).to.equal(200);
      expect((await allow(node, { clientId, policy: 'gate', peek: true })).remaining, clientId).to.equal(2);
    }
  });

  it('name the header that is missing, empty, too long, no UTF-8, unknown, or comes twice', async () => {
    const client = 'X-Tokenring-Client: x\r\n';
    const mistakes: [lines: string, field: string, code?: 'unknown_policy'][] = [
      [LINES, 'X-Tokenring-Client'],
      [`${LINES}X-Tokenring-Client:\r\n`, 'X-Tokenring-Client'],
      [`${LINES}X-Tokenring-Client: ${'x'.repeat(257)}\r\n`, 'X-Tokenring-Client'],
      [`${LINES}X-Tokenring-Client: \xff\r\n`, 'X-Tokenring-Client'],
      [`${LINES}X-Tokenring-Client: \xed\xa0\x80\r\n`, 'X-Tokenring-Client'],
      [`${LINES}${client}${client}`, 'X-Tokenring-Client'],
      [`${LINES}${client}x-tokenring-CLIENT:\r\n`, 'X-Tokenring-Client'],
      [`${LINES}X_Tokenring_Client: x\r\n`, 'X-Tokenring-Client'],
      [client, 'X-Tokenring-Policy'],
      [`${client}X-Tokenring-Policy:\r\n`, 'X-Tokenring-Policy'],
      [`${client}X-Tokenring-Policy: ${'x'.repeat(129)}\r\n`, 'X-Tokenring-Policy'],
      [`${client}${LINES}${LINES}`, 'X-Tokenring-Policy'],
      [`${client}X-Tokenring-Policy: no-such\r\n`, 'X-Tokenring-Policy', 'unknown_policy'],
      [`${client}X-Tokenring-Policy: gate,gate\r\n`, 'X-Tokenring-Policy', 'unknown_policy'],
      [`${client}X-Tokenring-Policy: __proto__\r\n`, 'X-Tokenring-Policy', 'unknown_policy'],
      ...['', '0', '-1', '1.5', '1e3', '1, 1', '0x1', '1000000001', '99999999999'].map((cost): [string, string] => [
        `${client}${LINES}X-Tokenring-Cost: ${cost}\r\n`,
        'X-Tokenring-Cost',
      ]),
      [`${client}${LINES}X-Tokenring-Cost: 1\r\nX-Tokenring-Cost: 1\r\n`, 'X-Tokenring-Cost'],
      ...['', '\xff', 'x'.repeat(129), 'x\r\nX-Tokenring-Scope: x'].map((scope): [string, string] => [
        `${client}${LINES}X-Tokenring-Scope: ${scope}\r\n`,
        'X-Tokenring-Scope',
      ]),
    ];
    for (const [lines, field, code = 'invalid_request'] of mistakes) {
      for (const gateway of GATEWAYS) {
        const problem = expectProblem(await raw(lines, `/v1/check/${gateway}`), code, field);
        expect(problem.expected, lines).to.be.a('string').that.is.not.empty;
      }
    }
  });

  it('hear all headers, however many fit: none is lost behind others', async () => {
    const many = 'a:\r\n'.repeat(3_000);
    const client = 'X-Tokenring-Client: x\r\n';
    expectProblem(await raw(`${LINES}${client}${many}${client}`), 'invalid_request', 'X-Tokenring-Client');
    expect((await raw(`${many}${LINES}X-Tokenring-Client: ${newClient()}\r\n`)).status).to.equal(200);
  });

  it('take no policy by default where none is named: a caller that makes its gateway lose the header gains nothing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    const path = join(folder, 'policies.json');
    writeFileSync(path, JSON.stringify({ policies: { lax: { limit: 1000, window: '1s' } }, default: 'lax' }));
    const lax = await liveNode('--policies', path, '--policies-state', 'none');
    rmSync(folder, { recursive: true });
    expect((await allow(lax, { clientId: 'x' })).allowed).to.equal(true);
    expectProblem(await check('traefik', { 'X-Tokenring-Client': 'x' }, lax), 'invalid_request', 'X-Tokenring-Policy');
  });

  describe('take the client from another header that the gateway names', () => {
    const from = (name: string, lines: string): Promise<Answer> =>
      raw(`${LINES}X-Tokenring-Client-From: ${name}\r\n${lines}`);

    it('whole', async () => {
      const clientId = newClient();
      expect((await from('X-User', `X-User: ${clientId}\r\n`)).status).to.equal(200);
      expect((await from('x-USER', `X-User: ${clientId}\r\n`)).headers['ratelimit']).to.match(/^"gate";r=1;/);
    });

    it('of X-Forwarded-For the last, which the gateway wrote itself', async () => {
      const lists = [
        'X-Forwarded-For: 198.51.100.7\r\n',
        'X-Forwarded-For: 192.0.2.1, 192.0.2.2,198.51.100.7\r\n',
        'X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 198.51.100.7 \r\n',
      ];
      for (const [i, lines] of lists.entries())
        expect((await from('X-Forwarded-For', lines)).headers['ratelimit'], lines).to.match(
          new RegExp(`^"gate";r=${2 - i};`),
        );
    });

    it('and say which it is where it is missing, bad, comes twice, or stands beside a client', async () => {
      const twice = 'X-User: x\r\nX-User: x\r\n';
      const mistakes: [name: string, lines: string, field: string][] = [
        ['X-User', '', 'X-User'],
        ['X-User', 'X-User:\r\n', 'X-User'],
        ['X-User', `X-User: ${'x'.repeat(257)}\r\n`, 'X-User'],
        ['X-User', twice, 'X-User'],
        // Of these Node shows the first alone.
        ['From', 'From: x\r\nFrom: x\r\n', 'From'],
        ['X-User', 'X-User: x\r\nX-Tokenring-Client: y\r\n', 'X-Tokenring-Client'],
        ['X-Forwarded-For', '', 'X-Forwarded-For'],
        ['X-Forwarded-For', 'X-Forwarded-For: 192.0.2.1,\r\n', 'X-Forwarded-For'],
        ['', '', 'X-Tokenring-Client-From'],
        ['X User', '', 'X-Tokenring-Client-From'],
        ['X-User, X-Other', 'X-User: x\r\n', 'X-Tokenring-Client-From'],
        // What objects have by birth is no header.
        ['__proto__', '', '__proto__'],
        ['constructor', '', 'constructor'],
        ['toString', '', 'toString'],
      ];
      for (const [name, lines, field] of mistakes) expectProblem(await from(name, lines), 'invalid_request', field);
    });
  });

  it('take each method of the forwarding gateways, and the path of the request behind that of Envoy, whatever is in it', async () => {
    const clientId = newClient();
    const lines = `X-Tokenring-Client: ${clientId}\r\nX-Tokenring-Policy: gate\r\n`;
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']) {
      for (const path of ['/v1/check/forward-auth', '/v1/check/traefik', '/v1/check/envoy', '/v1/check/envoy/a']) {
        const line = method === 'HEAD' ? lines : `${lines}X-Tokenring-Cost: 9\r\n`;
        const request = frame(path, '', { method, headers: CLOSE + line });
        const { status } =
          method === 'HEAD'
            ? await call(node, path, { method, headers: asked(newClient()) })
            : (await exchange(node.port, request))[0]!;
        expect(status, `${method} ${path}`).to.equal(method === 'HEAD' ? 200 : 429);
      }
    }
    const paths = [
      '',
      '/',
      '//',
      '/a/b?c=d',
      '?x',
      '*',
      '/%',
      '/%ff%00',
      '/../../v1/allow',
      '/./healthz',
      '/a;b',
      '/v1/allow',
      '/"<>',
    ];
    for (const path of paths)
      expect((await raw(`${lines}X-Tokenring-Cost: 9\r\n`, `/v1/check/envoy${path}`)).status, path).to.equal(429);
    for (const path of ['/v1/check/envoyx', '/v1/check/', '/v1/check', '/v1/check/haproxy', '/v1/check/nginx/a'])
      expectProblem(await raw(lines, path), 'not_found');
    const wrong = await raw(lines, '/v1/check/nginx', 'POST');
    expectProblem(wrong, 'method_not_allowed');
    expect(wrong.headers['allow']).to.equal('GET, HEAD');
  });

  it('do not read a body, and hang up on who sends one', async () => {
    const lines = `X-Tokenring-Client: ${newClient()}\r\nX-Tokenring-Policy: gate\r\n`;
    for (const gateway of ['forward-auth', 'traefik', 'envoy'] as const) {
      const [answer, ...more] = await exchange(
        node.port,
        frame(`/v1/check/${gateway}`, '{"clientId":"y"}', { headers: lines }),
      );
      expect(more).to.deep.equal([]);
      expect(answer).to.include({ status: 200 });
      expect(answer!.headers['connection']).to.equal('close');
    }
  });

  describe('where decisions need a token', () => {
    let guarded: RunningNode;
    before(async () => {
      const folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
      const path = join(folder, 'tokens.json');
      const sha256 = (token: string): string => digestOf(token).toString('hex');
      const tokens = [
        { name: 'gateway', roles: ['decide'], sha256: sha256('gateway-token') },
        { name: 'looker', roles: ['read'], sha256: sha256('looker-token') },
      ];
      writeFileSync(path, JSON.stringify({ require: ['decide'], tokens }));
      guarded = await liveNode('--tokens', path, '--admin-token', TOKEN);
      rmSync(folder, { recursive: true });
      await setPolicies(guarded, { gate: { limit: 3, window: '1d' } });
    });

    it('ask the gateway for it', async () => {
      for (const gateway of GATEWAYS) {
        const headers = { ...asked(newClient()), authorization: 'Bearer gateway-token' };
        expect((await check(gateway, headers, guarded)).status).to.equal(200);
      }
    });

    it('answer one without it with a fault: a 401 or 403 would be taken for its caller’s', async () => {
      for (const gateway of GATEWAYS) {
        for (const more of [{}, { authorization: 'Bearer guess' }, { authorization: 'Bearer looker-token' }]) {
          const answer = await check(gateway, { ...asked('x'), ...more }, guarded);
          expectProblem(answer, 'gateway_unauthorized', 'Authorization');
          expect(answer.headers).not.to.have.property('www-authenticate');
        }
      }
      expect((await allow(node, { clientId: 'x', policy: 'gate', peek: true })).remaining).to.equal(3);
    });
  });

  it('count as decisions, in no label of which is an id', async () => {
    const count = async (): Promise<number> => {
      const { text } = await call(node, '/metrics');
      return Number(/^tokenring_decisions_total\{outcome="denied",source="owner"\} (\d+)$/m.exec(text)![1]);
    };
    const before = await count();
    for (const gateway of GATEWAYS) await check(gateway, asked('gate-id', 'gate-never'));
    expect((await count()) - before).to.equal(4);
    expect((await call(node, '/metrics')).text).not.to.include('gate-id');
  });
});

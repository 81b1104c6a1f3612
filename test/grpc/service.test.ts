import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { status, type ServiceError } from '@grpc/grpc-js';
import { digestOf } from '../../src/server/edge/access.js';
import type { RunningNode } from '../../src/app/main.js';
import { call, liveNode, newClient } from '../support/http.js';
import { codeOf, descriptor, grpcClient, type Answered, type GrpcClient } from '../support/grpc.js';

const OK = 1;
const OVER_LIMIT = 2;
const [MINUTE, WEEK] = [2, 7];

const POLICIES = {
  policies: {
    two: { limit: 2, window: '1m' },
    three: { limit: 3, window: '1m' },
    many: {
      limits: [
        { limit: 100, window: '1s' },
        { limit: 2, window: '1h' },
      ],
    },
    weekly: { limit: 5, window: 7 * 86_400_000 },
    odd: { limit: 5, window: '7s' },
    shy: { limit: 1, window: '1m', shadow: true },
  },
  deny: ['abuser'],
  envoy: {
    edge: [
      { entries: ['two'], policy: 'two', headers: true },
      { entries: ['three'], policy: 'three' },
      { entries: ['many'], policy: 'many' },
      { entries: ['weekly'], policy: 'weekly' },
      { entries: ['odd'], policy: 'odd' },
      { entries: ['shy'], policy: 'shy' },
      { entries: ['tried'], policy: 'two', shadow: true },
      { entries: ['free'], unlimited: true },
      { entries: ['kind=special', 'two'], policy: 'three', name: 'special', replaces: ['two'] },
      { entries: ['user'], policy: 'two', client: '{user}' },
      { entries: ['gone'], policy: 'three', client: '{gone}' },
    ],
  },
};

const folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
const file = join(folder, 'policies.json');
writeFileSync(file, JSON.stringify(POLICIES));
const flags = ['--grpc-port', '0', '--policies', file, '--policies-state', 'none'];

describe('ShouldRateLimit', () => {
  let node: RunningNode;
  let client: GrpcClient;
  before(async () => {
    node = await liveNode(...flags);
    client = grpcClient(node.grpcPort!);
  });
  after(() => {
    client.close();
    rmSync(folder, { recursive: true });
  });
  const ask = (descriptors: ReturnType<typeof descriptor>[], hits?: number): Promise<Answered> =>
    client.limit({ domain: 'edge', descriptors, ...(hits !== undefined && { hits_addend: hits }) });
  const codes = ({ overall_code: overall, statuses }: Answered): number[] => [
    overall,
    ...statuses.map(({ code }) => code),
  ];
  const left = ({ statuses }: Answered): number[] => statuses.map(({ limit_remaining: remaining }) => remaining);

  it('allows up to the limit of the policy, and then answers OVER_LIMIT with the figures', async () => {
    const one = descriptor(`two=${newClient()}`);
    expect(codes(await ask([one]))).to.deep.equal([OK, OK]);
    expect(codes(await ask([one]))).to.deep.equal([OK, OK]);
    const denied = await ask([one]);
    expect(codes(denied)).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
    const { current_limit: limit, duration_until_reset: reset } = denied.statuses[0]!;
    expect(limit).to.deep.equal({ requests_per_unit: 2, unit: MINUTE, name: 'two' });
    expect(reset!.seconds).to.be.within(58, 60);
    expect(denied.response_headers_to_add.map(({ key }) => key)).to.deep.equal([
      'RateLimit-Policy',
      'RateLimit',
      'Retry-After',
    ]);
  });

  it('takes the hits of the request', async () => {
    const one = descriptor(`three=${newClient()}`);
    expect(left(await ask([one], 2))).to.deep.equal([1]);
    expect(codes(await ask([one], 2))).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
    expect(left(await ask([one]))).to.deep.equal([0]);
    expect(codes(await ask([one], 4_000_000_000))).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
  });

  it('takes the hits of a descriptor before those of the request, and consumes nothing for 0', async () => {
    const key = newClient();
    const entry = Buffer.concat([Buffer.from('\n\x05three\x12'), Buffer.from([key.length]), Buffer.from(key)]);
    const withHits = (hits: number): Buffer => {
      const of = Buffer.concat([Buffer.from([0x0a, entry.length]), entry, Buffer.from([0x1a, 2, 0x08, hits])]);
      return Buffer.concat([Buffer.from('\n\x04edge'), Buffer.from([0x12, of.length]), of, Buffer.from([0x18, 3])]);
    };
    const send = (hits: number): Promise<Buffer> =>
      client.raw('/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit', withHits(hits));
    await send(0);
    await send(1);
    expect(left(await ask([descriptor(`three=${key}`)]))).to.deep.equal([1]);
  });

  it('consumes nothing of any descriptor if one is over its limit', async () => {
    const [a, b] = [descriptor(`two=${newClient()}`), descriptor(`three=${newClient()}`)];
    await ask([a], 2);
    const denied = await ask([b, a]);
    expect(codes(denied)).to.deep.equal([OVER_LIMIT, OK, OVER_LIMIT]);
    expect(left(denied)).to.deep.equal([3, 0]);
    expect(left(await ask([b]))).to.deep.equal([2]);
  });

  it('takes all or nothing also if one client is there twice', async () => {
    const one = descriptor(`three=${newClient()}`);
    expect(codes(await ask([one, one]))).to.deep.equal([OK, OK, OK]);
    expect((await ask([one, one])).overall_code).to.equal(OVER_LIMIT);
    expect(left(await ask([one]))).to.deep.equal([0]);
  });

  it('does not deny by a shadow policy or a shadow rule, and counts them', async () => {
    const [shy, tried, other] = [`shy=${newClient()}`, `tried=${newClient()}`, `three=${newClient()}`].map((one) =>
      descriptor(one),
    );
    for (let i = 0; i < 3; i += 1) expect(codes(await ask([shy!, tried!, other!]))).to.deep.equal([OK, OK, OK, OK]);
    const metrics = (await call(node, '/metrics')).text;
    expect(metrics).to.match(/tokenring_shadow_denials_total\{policy="shy"\} [1-9]/);
    expect(metrics).to.match(/tokenring_shadow_denials_total\{policy="two"\} [1-9]/);
  });

  it('has no limit for descriptors and domains that no rule names', async () => {
    const answer = await ask([descriptor('unknown=x'), descriptor('free=x')]);
    const none = { code: OK, current_limit: null, duration_until_reset: null, quota: null };
    expect(answer.statuses).to.deep.equal([
      { ...none, limit_remaining: 0 },
      { ...none, limit_remaining: 0xffffffff },
    ]);
    expect(codes(await client.limit({ domain: 'other', descriptors: [descriptor('two=x')] }))).to.deep.equal([OK, OK]);
  });

  it('names the tightest of several limits, and a unit where the window is one', async () => {
    const limitOf = async (key: string) =>
      (await ask([descriptor(`${key}=${newClient()}`)])).statuses[0]!.current_limit;
    expect(await limitOf('many')).to.deep.equal({ name: 'many', requests_per_unit: 2, unit: 3 });
    expect(await limitOf('weekly')).to.deep.equal({ name: 'weekly', requests_per_unit: 5, unit: WEEK });
    expect(await limitOf('odd')).to.deep.equal({ name: 'odd', requests_per_unit: 5, unit: 0 });
  });

  it('uses the limit of the descriptor instead of that of the policy', async () => {
    const one = { ...descriptor(`two=${newClient()}`), limit: { requests_per_unit: 1, unit: 'HOUR' } };
    const first = await ask([one]);
    expect(first.statuses[0]!.current_limit).to.deep.equal({ name: 'two', requests_per_unit: 1, unit: 3 });
    expect(codes(await ask([one]))).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
    const unmatched = { ...descriptor(`unknown=${newClient()}`), limit: { requests_per_unit: 0, unit: 'YEAR' } };
    expect(codes(await ask([unmatched]))).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
  });

  it('leaves out a rule that a rule of another descriptor replaces', async () => {
    const [two, special] = [descriptor(`two=${newClient()}`), descriptor('kind=special', `two=${newClient()}`)];
    await ask([two], 2);
    const answer = await ask([two, special]);
    expect(codes(answer)).to.deep.equal([OK, OK, OK]);
    expect(answer.statuses.map(({ current_limit: limit }) => limit?.name)).to.deep.equal([undefined, 'special']);
  });

  it('shares a client with the HTTP API where the rule names the client so', async () => {
    const clientId = newClient();
    await ask([descriptor(`user=${clientId}`)], 2);
    const sent = { method: 'POST', headers: { 'content-type': 'application/json' } };
    const body = JSON.stringify({ clientId, policy: 'two' });
    expect((await call(node, '/v1/allow', { ...sent, body })).status).to.equal(429);
    expect(codes(await ask([descriptor('user=abuser')]))).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
  });

  it('answers mistakes with INVALID_ARGUMENT that names the field', async () => {
    const rows: [object, string][] = [
      [{ descriptors: [descriptor('a=b')] }, 'domain'],
      [{ domain: 'edge' }, 'descriptors'],
      [{ domain: 'edge', descriptors: [{}] }, 'descriptors[0].entries'],
      [{ domain: 'edge', descriptors: [descriptor('=b')] }, 'descriptors[0].entries[0].key'],
      [
        { domain: 'edge', descriptors: [{ ...descriptor('a=b'), limit: { requests_per_unit: 1, unit: 0 } }] },
        'descriptors[0].limit.unit',
      ],
    ];
    for (const [asked, field] of rows) {
      const error = await client.limit(asked).catch((one: unknown) => one as ServiceError);
      expect(error).to.include({ code: status.INVALID_ARGUMENT });
      expect((error as ServiceError).details).to.include(field);
    }
  });

  it('limits a value that is too long for a client id', async () => {
    const one = descriptor(`user=${'x'.repeat(10_000)}`);
    await ask([one], 2);
    expect(codes(await ask([one]))).to.deep.equal([OVER_LIMIT, OVER_LIMIT]);
  });

  it('is shown by /v1/policies as it was written', async () => {
    const { json } = await call(node, '/v1/policies');
    expect((json as { envoy: object }).envoy).to.deep.equal(POLICIES.envoy);
  });
});

describe('ShouldRateLimit on a node that asks for tokens', () => {
  it('answers UNAUTHENTICATED and PERMISSION_DENIED, and decides for a token with the role', async () => {
    const own = mkdtempSync(join(tmpdir(), 'tokenring-'));
    const tokens = join(own, 'tokens.json');
    const token = (name: string, role: string): object => ({
      name,
      roles: [role],
      sha256: digestOf(`the-${name}-token`).toString('hex'),
    });
    writeFileSync(
      tokens,
      JSON.stringify({ require: ['decide'], tokens: [token('proxy', 'decide'), token('reader', 'read')] }),
    );
    const node = await liveNode('--grpc-port', '0', '--tokens', tokens);
    const client = grpcClient(node.grpcPort!);
    const asked = { domain: 'edge', descriptors: [descriptor('a=b')] };
    const ask = (authorization?: string): Promise<number> =>
      codeOf(client.limit(asked, authorization === undefined ? {} : { authorization }));
    expect(await ask()).to.equal(status.UNAUTHENTICATED);
    expect(await ask('Bearer guess')).to.equal(status.UNAUTHENTICATED);
    expect(await ask('Bearer the-reader-token')).to.equal(status.PERMISSION_DENIED);
    expect(await ask('Bearer the-proxy-token')).to.equal(0);
    const health = await client.raw('/grpc.health.v1.Health/Check', Buffer.alloc(0));
    expect(health).to.deep.equal(Buffer.from([0x08, 1]));
    client.close();
    rmSync(own, { recursive: true });
  });
});

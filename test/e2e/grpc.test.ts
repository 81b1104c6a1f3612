import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { certificateFiles, createAuthority, type Identity } from '../peer/certificates.js';
import { codeOf, descriptor, grpcClient, requestSerialize, type Answered, type GrpcClient } from '../support/grpc.js';
import { freePorts } from '../support/ports.js';
import { killAll, serve, tokenring, type Program } from './processes.js';
import { need } from '../support/programs.js';

const OK = 1;
const OVER_LIMIT = 2;
const SHARED_LIMIT = 1_000;
const POLICIES = {
  policies: { two: { limit: 2, window: '1d' }, many: { limit: SHARED_LIMIT, window: '1d' } },
  envoy: {
    edge: [
      { entries: ['user'], policy: 'two' },
      { entries: ['shared'], policy: 'many' },
    ],
  },
};
/** Nobody is taken for dead because the machine is busy. */
const PATIENT = ['--suspect-after-ms', '5000'];

type Node = Program & { readonly port: number; readonly grpcPort: number };

async function get({ port }: { readonly port: number }, path: string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}${path}`)).text();
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(50);
}

describe('tokenring serve with a gRPC port', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-grpc-'));
  const policies = join(folder, 'policies.json');
  const clients: GrpcClient[] = [];
  before(() => writeFileSync(policies, JSON.stringify(POLICIES)));
  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
    killAll();
  });
  after(() => rmSync(folder, { recursive: true }));

  async function start(...flags: string[]): Promise<Node> {
    const fixed = ['--grpc-port', '0', '--policies', policies, '--policies-state', 'none', ...PATIENT];
    const node = await serve(...fixed, ...flags);
    return { ...node, grpcPort: (await node.line('tokenring ready'))['grpcPort'] as number };
  }
  async function startRing(count: number): Promise<Node[]> {
    const ports = await freePorts(count);
    const peers = ports.map((port) => `127.0.0.1:${port}`).join(',');
    const nodes = await Promise.all(ports.map((port) => start('--peer-port', `${port}`, '--peers', peers)));
    const sees = async (node: Node): Promise<boolean> =>
      (await get(node, '/metrics')).includes(`tokenring_members{state="active"} ${count}\n`);
    for (const node of nodes) await until(() => sees(node));
    return nodes;
  }
  function open(...args: Parameters<typeof grpcClient>): GrpcClient {
    const client = grpcClient(...args);
    clients.push(client);
    return client;
  }
  async function stop(node: Program): Promise<void> {
    node.child.kill('SIGTERM');
    expect(await node.ended).to.include({ code: 0, stderr: '' });
  }
  const ask = (client: GrpcClient, ...pairs: string[]): Promise<Answered> =>
    client.limit({ domain: 'edge', descriptors: pairs.map((pair) => descriptor(pair)) });
  const allowed = (answers: readonly Answered[]): number =>
    answers.filter(({ overall_code: overall }) => overall === OK).length;

  it('asks for certificates of its authority, and shows another one once its files have changed', async function () {
    need(this, 'openssl');
    const [ours, theirs] = [createAuthority('ours'), createAuthority('theirs')];
    const files = certificateFiles(folder, 'tls');
    const [first, second] = ['IP:127.0.0.1,DNS:localhost', 'DNS:localhost'].map((names) => ours.issue(names));
    files.write(first!, ours.ca);
    const node = await start(...files.flags, '--tls-require-client-cert', 'true');

    const shown: string[] = [];
    const secure = (client?: Identity): GrpcClient => {
      const [key, cert] = [client?.key, client?.cert].map((text) => (text === undefined ? null : Buffer.from(text)));
      const checkServerIdentity = (_host: string, { fingerprint256 }: { fingerprint256: string }): undefined =>
        void shown.push(fingerprint256);
      return open(node.grpcPort, credentials.createSsl(Buffer.from(ours.ca), key, cert, { checkServerIdentity }));
    };
    const identity = ours.issue('DNS:client');
    const kept = secure(identity);
    expect((await ask(kept, 'user=a')).overall_code).to.equal(OK);
    for (const one of [secure(), secure(theirs.issue('DNS:client')), open(node.grpcPort)])
      expect(await codeOf(ask(one, 'user=a'))).to.equal(status.UNAVAILABLE);

    files.write(second!, ours.ca);
    const expected = new X509Certificate(second!.cert).fingerprint256;
    await until(async () => {
      expect((await ask(secure(identity), 'other=a')).overall_code).to.equal(OK);
      return shown.at(-1) === expected;
    });
    expect(shown[0]).to.equal(new X509Certificate(first!.cert).fingerprint256);
    // The connection from before stays.
    const connections = shown.length;
    expect((await ask(kept, 'user=a')).overall_code).to.equal(OK);
    expect((await ask(kept, 'user=a')).overall_code).to.equal(OVER_LIMIT);
    expect(shown).to.have.length(connections);
    await stop(node);
  });

  it('is one limiter behind one gRPC port, with several workers', async () => {
    const group = await start('--workers', '2');
    for (const line of await group.lines('worker ready', 2)) expect(line['grpcPort']).to.equal(group.grpcPort);
    // The kernel, where it spreads the connections, does so by chance.
    const callers = Array.from({ length: 16 }, () => open(group.grpcPort));
    const answers = await Promise.all(callers.flatMap((one) => [ask(one, 'user=a'), ask(one, 'user=b')]));
    expect(allowed(answers)).to.equal(4);
    // One client has one owner, so the other worker forwards, or remembers the denials.
    const metrics = await get(group, '/metrics');
    const decided = [...metrics.matchAll(/^tokenring_decisions_total\{.*source="([\w-]+)".*\} (\d+)$/gm)];
    const by = (isOwner: boolean): number =>
      decided
        .filter(([, source]) => (source === 'owner') === isOwner)
        .reduce((sum, [, , count]) => sum + Number(count), 0);
    expect(by(true)).to.be.within(1, 31);
    expect(by(true) + by(false)).to.equal(32);
    await stop(group);
  });

  it('charges all descriptors or none, over three nodes, whoever else asks', async () => {
    const nodes = await startRing(3);
    const callers = nodes.map(({ grpcPort }) => open(grpcPort));
    const users = Array.from({ length: 30 }, (_, i) => `user=${i}`);
    const asked = [0, 1, 2, 3, 4, 5].flatMap((turn) =>
      users.map((user, i) => ask(callers[(turn + i) % 3]!, user, 'shared=all')),
    );
    const answers = await Promise.all(asked);
    expect(allowed(answers)).to.equal(60);
    const denied = answers.filter(({ overall_code: overall }) => overall === OVER_LIMIT);
    expect(denied).to.have.length(120);
    // The user has no tokens left. The shared bucket has.
    for (const { statuses } of denied) expect(statuses.map(({ code }) => code)).to.deep.equal([OVER_LIMIT, OK]);
    for (const [i, caller] of callers.entries()) {
      const [{ limit_remaining: left }] = (await ask(caller, 'shared=all')).statuses as Answered['statuses'] &
        [Answered['statuses'][number]];
      expect(left).to.equal(SHARED_LIMIT - 60 - (i + 1));
    }
    await Promise.all(nodes.map(stop));
  });

  it('ends with 2 and one line that names its setting where the gRPC port is taken', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    // A test that fails must not keep its process alive.
    taken.unref();
    const { port } = taken.address() as AddressInfo;
    const flags = ['serve', '--port', '0', '--peer-port', '0', '--grpc-port', `${port}`];
    for (const { code, stderr } of await Promise.all(
      [flags, [...flags, '--workers', '2']].map((args) => tokenring(args).ended),
    )) {
      expect(code).to.equal(2);
      expect(stderr).to.match(
        new RegExp(`^tokenring: TOKENRING_GRPC_PORT: [^\\n]*:${port} \\(EADDRINUSE\\)[^\\n]*\\n$`),
      );
    }
    taken.close();
  });

  it('fails no call when it stops on SIGTERM', async () => {
    const nodes = await startRing(2);
    const [node, other] = nodes as [Node, Node];
    const addresses = nodes.map(({ grpcPort }) => `127.0.0.1:${grpcPort}`).join(',');
    const config = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });
    const caller = open(`ipv4:${addresses}`, undefined, {
      'grpc.service_config': config,
      // A call that has not left the caller when GOAWAY arrives goes elsewhere. That is no retry of a failed call.
      'grpc.enable_retries': 1,
    });

    // One call has sent half of its message.
    const session = connect(`http://127.0.0.1:${node.grpcPort}`);
    const path = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
    const slow = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const message = requestSerialize({ domain: 'edge', descriptors: [descriptor('user=slow')] });
    const framed = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
    slow.write(framed.subarray(0, 10));
    const trailers = new Promise<unknown>((resolve) => slow.on('trailers', resolve));
    slow.resume();

    let isOver = false;
    let calls = 0;
    const failures: unknown[] = [];
    const load = Array.from({ length: 16 }, async (_, i) => {
      while (!isOver) {
        calls += 1;
        await ask(caller, `other=${i}`, `user=${i}`).catch((error: unknown) => failures.push(error));
      }
    });
    await until(() => Promise.resolve(calls > 500));
    const before = calls;
    const startMs = performance.now();
    node.child.kill('SIGTERM');
    await node.line('stopping');
    // After the notice, the node takes no other call.
    await until(() =>
      ask(open(node.grpcPort), 'other=late').then(
        () => false,
        () => true,
      ),
    );
    slow.end(framed.subarray(10));
    expect(await trailers).to.include({ 'grpc-status': '0' });
    expect(await node.ended).to.include({ code: 0, stderr: '' });
    expect(performance.now() - startMs).to.be.below(8_000);
    isOver = true;
    await Promise.all(load);
    expect(calls).to.be.above(before);
    expect(failures).to.deep.equal([]);
    session.destroy();
    await stop(other);
  });
});

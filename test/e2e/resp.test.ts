import { execFile } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { createAuthority } from '../peer/certificates.js';
import { command, connectResp, wireOf } from '../resp/wire.js';
import { eventually } from '../support/eventually.js';
import { newClient } from '../support/http.js';
import { freePorts } from '../support/ports.js';
import { killAll, serve, tokenring, type Program } from './processes.js';
import { need, type Program as Wanted } from '../support/programs.js';

const PIPELINE = 64;
/**
 * So few that an owner lends none of them: leased tokens whose return is late stay taken, so that on a busy machine less
 * than the limit would be admitted.
 */
const TOKENS = 12;

type Node = Program & { readonly port: number; readonly respPort: number };

async function serveResp(...flags: string[]): Promise<Node> {
  const node = await serve('--resp-port', '0', ...flags);
  const { respPort } = await node.line('tokenring ready');
  return { ...node, respPort: respPort as number };
}

/** Three nodes of one ring, each of which has joined. */
async function serveRing(count: number): Promise<Node[]> {
  const peerPorts = await freePorts(count);
  const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
  const patient = ['--suspect-after-ms', '5000', '--peers', peers];
  const nodes = await Promise.all(peerPorts.map((port) => serveResp(...patient, '--peer-port', `${port}`)));
  const activeMembers = async (port: number): Promise<number> => {
    const answer = await fetch(`http://127.0.0.1:${port}/v1/cluster`);
    const { members } = (await answer.json()) as { members: { state: string }[] };
    return members.filter(({ state }) => state === 'active').length;
  };
  for (const { port } of nodes)
    expect(
      await eventually(
        () => activeMembers(port),
        (active) => active === count,
      ),
    ).to.equal(count);
  return nodes;
}

async function stop(node: Program): Promise<void> {
  node.child.kill('SIGTERM');
  expect(await node.ended).to.include({ code: 0, stderr: '' });
}

/** `CL.THROTTLE` with so many tokens that do not come back while a test runs. */
const throttle = (key: string, tokens: number): string[] => ['CL.THROTTLE', key, `${tokens - 1}`, '1', '31622400'];

/** Sends pipelines of one question. @returns how many were allowed */
async function pipelines(redis: Redis, asked: readonly string[], count: number): Promise<number> {
  let allowed = 0;
  for (let sent = 0; sent < count; sent += PIPELINE) {
    const pipeline = redis.pipeline();
    for (let i = 0; i < PIPELINE; i += 1) pipeline.call(asked[0]!, ...asked.slice(1));
    for (const [error, answer] of (await pipeline.exec())!) {
      expect(error).to.equal(null);
      if ((answer as number[])[0] === 0) allowed += 1;
    }
  }
  return allowed;
}

describe('the port of the Redis protocol', function () {
  this.timeout(60_000);
  afterEach(killAll);

  const IOREDIS = [
    ['ioredis with RESP2', (port: number) => new Redis(port, { protocol: 2 })],
    ['ioredis with RESP3', (port: number) => new Redis(port, { protocol: 3, replyMapping: 'resp3' })],
  ] as const;
  for (const [name, open] of IOREDIS) {
    it(`answers ${name}, and its pipelines in order`, async () => {
      const node = await serveResp();
      const redis = open(node.respPort);
      const first = await redis.call('TR.ALLOW', newClient(), 'LIMIT', 10, 'WINDOW', '1d');
      expect(Array.isArray(first)).to.equal(name.endsWith('2'));
      if (Array.isArray(first)) expect(first.slice(0, 4)).to.deep.equal([1, 10, 9, 0]);
      else expect(first).to.include({ allowed: true, limit: 10, remaining: 9, retryAfterMs: 0 });
      const [clientId, pipeline] = [newClient(), redis.pipeline()];
      for (let i = 0; i < 5; i += 1) pipeline.call(...(throttle(clientId, 3) as [string, ...string[]])).echo(`${i}`);
      const answers = (await pipeline.exec())!.map(([error, answer]) => error ?? answer);
      expect(answers.filter((_, i) => i % 2 === 1)).to.deep.equal(['0', '1', '2', '3', '4']);
      const decisions = answers.filter((_, i) => i % 2 === 0) as number[][];
      expect(decisions.map(([limited, limit, left]) => [limited, limit, left])).to.deep.equal([
        [0, 3, 2],
        [0, 3, 1],
        [0, 3, 0],
        [1, 3, 0],
        [1, 3, 0],
      ]);
      const error: unknown = await redis
        .call('TR.ALLOW', 'x', 'LIMIT', 'many', 'WINDOW', '1d')
        .catch((e: unknown) => e);
      expect((error as Error).message).to.match(/^INVALID_REQUEST limit: /);
      redis.disconnect();
      await stop(node);
    });
  }

  const TRANSACTIONS: readonly (readonly [
    library: string,
    needs: Wanted,
    command: readonly string[],
    program: string,
  ])[] = [
    [
      'redis-py',
      'python3 with Redis',
      ['/usr/bin/python3', '-c'],
      `import json, redis
pipe = redis.Redis(port=PORT).pipeline()
for _ in range(3): pipe.execute_command('CL.THROTTLE', 'x', 1, 1, 3600)
print(json.dumps(pipe.execute()))`,
    ],
    [
      'phpredis',
      'php with Redis',
      ['php', '-r'],
      `$redis = new Redis(); $redis->connect('127.0.0.1', PORT); $redis->select(0) or exit(1); $multi = $redis->multi();
for ($i = 0; $i < 3; $i++) $multi->rawCommand('CL.THROTTLE', 'x', 1, 1, 3600);
echo json_encode($multi->exec());`,
    ],
    [
      'redis-rb',
      'ruby with Redis',
      ['ruby', '-e'],
      `require "json"; require "redis"
puts Redis.new(port: PORT).multi { |multi| 3.times { multi.call("CL.THROTTLE", "x", 1, 1, 3600) } }.to_json`,
    ],
  ];
  for (const [library, needs, [program, flag], text] of TRANSACTIONS) {
    it(`answers transactions of ${library}, which it makes of pipelines`, async function () {
      need(this, needs);
      const node = await serveResp();
      const { stdout, stderr } = await promisify(execFile)(program!, [flag!, text.replace('PORT', `${node.respPort}`)]);
      expect(JSON.parse(stdout), stderr).to.deep.equal([
        [0, 2, 1, -1, 3_600],
        [0, 2, 0, -1, 7_200],
        [1, 2, 0, 3_600, 7_200],
      ]);
      await stop(node);
    });
  }

  it('answers transactions of ioredis and node-redis', async () => {
    const node = await serveResp();
    const expected = [[0, 3, 2, -1, 31_622_400], 'PONG'];
    const redis = new Redis(node.respPort, { protocol: 2 });
    const [throttled, ponged] = (await redis
      .multi()
      .call('CL.THROTTLE', ...throttle('io', 3).slice(1))
      .ping()
      .exec())!;
    expect([throttled![1], ponged![1]]).to.deep.equal(expected);
    redis.disconnect();
    const client = await createClient({ url: `redis://127.0.0.1:${node.respPort}/0` }).connect();
    expect(await client.multi().addCommand(throttle('node', 3)).ping().exec()).to.deep.equal(expected);
    await client.close();
    await stop(node);
  });

  for (const RESP of [2, 3] as const) {
    it(`answers node-redis with RESP${RESP}, and what it pipelines, in order`, async () => {
      const node = await serveResp();
      const client = await createClient({ url: `redis://127.0.0.1:${node.respPort}`, RESP }).connect();
      const ask = ['TR.ALLOW', newClient(), 'LIMIT', '3', 'WINDOW', '1d'];
      // It sends all commands of one turn as one pipeline.
      const answers: unknown[] = await Promise.all(Array.from({ length: 5 }, () => client.sendCommand(ask)));
      const pairs = answers.map((answer) => {
        if (RESP === 2) return (answer as number[]).slice(0, 3).toSpliced(1, 1);
        const { allowed, remaining } = answer as { allowed: boolean; remaining: number };
        return [Number(allowed), remaining];
      });
      expect(pairs).to.deep.equal([
        [1, 2],
        [1, 1],
        [1, 0],
        [0, 0],
        [0, 0],
      ]);
      expect(await client.ping()).to.equal('PONG');
      await client.close();
      await stop(node);
    });
  }

  it('admits exactly the limit with two workers behind it', async () => {
    const node = await serveResp('--workers', '2', '--suspect-after-ms', '5000');
    const connections = Array.from({ length: 6 }, () => new Redis(node.respPort));
    const asked = Array.from({ length: 12 }, () => throttle(newClient(), TOKENS));
    const admitted = asked.map(async (one) => {
      const each = await Promise.all(connections.map((redis) => pipelines(redis, one, PIPELINE)));
      return each.reduce((sum, allowed) => sum + allowed, 0);
    });
    expect(await Promise.all(admitted)).to.deep.equal(asked.map(() => TOKENS));
    for (const redis of connections) redis.disconnect();
    await stop(node);
  });

  it('admits exactly the limit under concurrent pipelines through three nodes', async () => {
    const nodes = await serveRing(3);
    const connections = nodes.flatMap(({ respPort }) => [new Redis(respPort), new Redis(respPort)]);
    const asked = Array.from({ length: 24 }, () => throttle(newClient(), TOKENS));
    const admitted = asked.map(async (one) => {
      const each = await Promise.all(connections.map((redis) => pipelines(redis, one, PIPELINE)));
      return each.reduce((sum, allowed) => sum + allowed, 0);
    });
    expect(await Promise.all(admitted)).to.deep.equal(asked.map(() => TOKENS));
    const owners = await Promise.all(
      asked.map(([, key]) => connections[0]!.call('TR.DESCRIBE', key!) as Promise<unknown[]>),
    );
    expect(new Set(owners.map((fields) => fields[3]))).to.have.length(3);
    for (const redis of connections) redis.disconnect();
    await Promise.all(nodes.map(stop));
  });

  it('does not start at a port that another program has, and names the setting', async () => {
    const node = await serveResp();
    const flags = ['--port', '0', '--peer-port', '0', '--resp-port', `${node.respPort}`];
    for (const workers of ['1', '2']) {
      const { code, stderr } = await tokenring(['serve', ...flags, '--workers', workers]).ended;
      expect(code).to.equal(2);
      expect(stderr).to.match(/^tokenring: TOKENRING_RESP_PORT: .*EADDRINUSE.*\n$/);
    }
    await stop(node);
  });

  it('on SIGTERM, answers every command that it has received and decides none without an answer', async () => {
    const [going, staying] = (await serveRing(2)) as [Node, Node];
    const wires = await Promise.all(Array.from({ length: 8 }, () => connectResp(going.respPort)));
    const keys = wires.map(() => newClient());
    // No more than half of the tokens are left, so the owner lends none. A node that stands still for a while, as on a
    // busy machine, returns leased tokens too late, and then more would be taken than answers tell of.
    const taken = 60_000;
    await Promise.all(keys.map((key, i) => wires[i]!.ask(...throttle(key, 100_000), `${taken}`)));
    const sent = wires.map(() => 0);
    const send = (i: number): void => {
      sent[i]! += PIPELINE;
      wires[i]!.send(...Array.from({ length: PIPELINE }, () => command(...throttle(keys[i]!, 100_000))));
    };
    for (const i of wires.keys()) send(i);
    await Promise.all(wires.map((wire) => wire.reply()));
    going.child.kill('SIGTERM');
    // All connections but the first continue to send until the node ends them.
    const sending = setInterval(() => {
      for (let i = 1; i < wires.length; i += 1) if (wires[i]!.socket.writable) send(i);
    }, 5);
    const ends: unknown[] = [];
    for (const { socket } of wires) socket.on('error', (error) => ends.push(error));
    const answered = (await Promise.all(wires.map((wire) => wire.rest()))).map((rest) => rest.length + 1);
    clearInterval(sending);
    expect(await going.ended).to.include({ code: 0, stderr: '' });
    expect(answered[0]).to.equal(PIPELINE);
    for (const [i, count] of answered.entries()) expect(count).to.be.within(PIPELINE, sent[i]!);
    const wire = await connectResp(staying.respPort);
    const charged: number[] = [];
    for (const key of keys) {
      const [, limit, left] = (await wire.ask(...throttle(key, 100_000), '0')) as [number, number, number];
      charged.push(limit - left - taken);
    }
    expect(charged).to.deep.equal(answered);
    expect(ends).to.deep.equal([]);
    wire.socket.destroy();
    await stop(staying);
  });
});

describe('the port of the Redis protocol with certificates', function () {
  this.timeout(60_000);
  afterEach(killAll);

  it('requires a certificate of its authority, and shows another of its own once the files have changed', async function () {
    need(this, 'openssl');
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-resp-'));
    const [ours, theirs] = [createAuthority('ours'), createAuthority('theirs')];
    const put = (kind: string, text: string): void => {
      writeFileSync(join(folder, `${kind}.new`), text);
      renameSync(join(folder, `${kind}.new`), join(folder, kind));
    };
    const use = (authority: typeof ours): void => {
      const { cert, key } = authority.issue('IP:127.0.0.1');
      put('cert', cert);
      put('key', key);
      put('ca', authority.ca);
    };
    use(ours);
    const files = ['cert', 'key', 'ca'].flatMap((kind) => [`--tls-${kind}`, join(folder, kind)]);
    const node = await serveResp(...files, '--tls-require-client-cert', 'true');
    /** @returns the answer to PING; rejects where the node refuses the certificate */
    const ping = (authority: typeof ours, own?: ReturnType<typeof ours.issue>): Promise<unknown> => {
      const tls = { host: '127.0.0.1', port: node.respPort, ca: authority.ca, ...own };
      const wire = wireOf(connectTls(tls).on('error', () => undefined));
      return wire.ask('PING').finally(() => wire.socket.destroy());
    };
    const refused = async (...asked: Parameters<typeof ping>): Promise<void> => {
      expect(await ping(...asked).catch((error: unknown) => error)).to.be.instanceOf(Error);
    };
    try {
      const [client, next] = [ours.issue('DNS:client'), theirs.issue('DNS:client')];
      const redis = new Redis({ host: '127.0.0.1', port: node.respPort, tls: { ca: ours.ca, ...client } });
      expect(await redis.ping()).to.equal('PONG');
      await refused(ours);
      await refused(ours, next);
      use(theirs);
      const admitted = await eventually(
        () => ping(theirs, next).catch((error: unknown) => error),
        (answer) => !(answer instanceof Error),
      );
      expect(admitted).to.deep.equal({ status: 'PONG' });
      await refused(theirs, client);
      // A connection from before the change continues.
      expect(await redis.ping()).to.equal('PONG');
      redis.disconnect();
      await stop(node);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

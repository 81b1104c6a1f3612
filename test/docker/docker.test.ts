import { expect } from 'chai';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCaller, type Answered, type Caller } from './caller.js';
import { findEngine, succeed, type Engine, type Ran } from './engine.js';
import { admittedOver, failures, underLoad, WINDOW } from './load.js';
import { fetchPages } from './pages.js';
import { pending } from '../support/programs.js';

const FILE = 'docker/docker-compose.yml';
const PROJECT = 'tokenring-test';
const IMAGE = 'tokenring';
const BASE_IMAGE = 'node:24-slim';
/** Bytes that the program and what it depends on add to the base image. */
const MAX_ADDED_BYTES = 25e6;
const SECRET = randomBytes(16).toString('hex');
const ADMIN_TOKEN = 'the-admin-token';
const LOAD = { limit: 20, clients: 60, workers: 6 };
/**
 * Three times the default, as up to five nodes, the balancer, the engine and this test share two cores: of nodes that the
 * machine does not let run for a while, several at once, little is promised.
 */
const SUSPECT_AFTER_MS = 3_000;
/** The longest that a decision may be missing from every copy: interval, flush, and the delays of a busy machine. */
const COPY_AGE_MS = 500;

interface ClusterView {
  readonly self: string;
  readonly ringChecksum: string;
  readonly members: readonly { readonly id: string; readonly state: string }[];
}

const engine = findEngine();

describe('the containers', function () {
  this.timeout(120_000);
  if ('missing' in engine) {
    it('needs Docker', function () {
      pending(this, engine.missing);
    });
    return;
  }
  testContainers(engine);
});

function testContainers(engine: Engine): void {
  let caller: Caller | undefined;
  /** What .env says besides. */
  let more: Readonly<Record<string, string>> = {};
  const stopNow = (): void => engine.stopNow();

  function compose(...args: string[]): Promise<Ran> {
    // A secret that somebody keeps in docker/.env has no part in this.
    return engine.docker(['compose', '-f', FILE, '-p', PROJECT, '--env-file', '/dev/null', ...args], {
      TOKENRING_PEER_SECRET: SECRET,
      TOKENRING_ADMIN_TOKEN: ADMIN_TOKEN,
      TOKENRING_SUSPECT_AFTER_MS: String(SUSPECT_AFTER_MS),
      ...more,
      BALANCER_PUBLISH: engine.publish,
    });
  }

  function scale(nodes: number): Promise<string> {
    return succeed(compose('up', '-d', '--no-build', '--no-recreate', '--scale', `node=${nodes}`));
  }

  const docker = (...args: string[]): Promise<string> => succeed(engine.docker(args)).then((text) => text.trim());
  const allow = (body: object): Promise<Answered> => caller!.call('POST', '/v1/allow', body);

  /** Names of the containers of nodes that run. */
  async function nodes(): Promise<readonly string[]> {
    const text = await succeed(compose('ps', 'node', '--format', '{{.Name}}'));
    return text.trim().split('\n').sort();
  }

  /** Waits until the balancer has asked `size` nodes, and each says that these are the ring. */
  async function ringOf(size: number): Promise<readonly string[]> {
    const giveUpAtMs = performance.now() + 30_000;
    let last: readonly ClusterView[] = [];
    for (;;) {
      const views = new Map<string, ClusterView>();
      for (let i = 0; i < 2 * size; i += 1) {
        const { status, body } = await caller!.call('GET', '/v1/cluster');
        if (status !== 200) continue;
        const view = JSON.parse(body) as ClusterView;
        views.set(view.self, view);
      }
      last = [...views.values()];
      const active = last.map(({ members }) => members.filter(({ state }) => state === 'active').map(({ id }) => id));
      const agree = new Set(last.map(({ ringChecksum }) => ringChecksum)).size === 1;
      if (last.length === size && agree && active.every((ids) => ids.length === size)) return active[0]!;
      if (performance.now() > giveUpAtMs) throw new Error(`no ring of ${size}: ${JSON.stringify(last)}`);
      await sleep(200);
    }
  }

  /** In the names of clients: the volume of a run that was killed may be there still. */
  const run = Date.now().toString(36);

  /** Consumes between nothing and everything of the limits of many clients. @returns expects that all of it is remembered */
  async function consume(name: string): Promise<() => Promise<void>> {
    const limit = 5;
    const clients = Array.from({ length: 60 }, (_, i) => ({
      clientId: `${name}-${run}-${i}`,
      consumed: i % (limit + 1),
    }));
    await Promise.all(
      clients.flatMap(({ clientId, consumed }) =>
        Array.from({ length: consumed }, async () => {
          expect((await allow({ clientId, limit, window: WINDOW })).status).equals(200);
        }),
      ),
    );
    return async () => {
      const remaining = await Promise.all(
        clients.map(async ({ clientId }) => {
          const { body } = await allow({ clientId, limit, window: WINDOW, peek: true });
          return [clientId, (JSON.parse(body) as { remaining: number }).remaining];
        }),
      );
      expect(remaining).deep.equals(clients.map(({ clientId, consumed }) => [clientId, limit - consumed]));
    };
  }

  before(async function () {
    this.timeout(300_000);
    process.once('exit', stopNow);
    await engine.build(IMAGE);
    await engine.start();
    const images = await succeed(compose('config', '--images'));
    const balancer = images
      .trim()
      .split('\n')
      .find((image) => image !== IMAGE)!;
    if (!(await engine.has(balancer))) await succeed(engine.run('test/docker/haproxy-image.sh', [balancer]));
    // What a run that was cut off has left.
    await compose('down', '-v', '-t', '0');
    await succeed(compose('up', '-d', '--no-build', '--wait'));
    const port = (await succeed(compose('port', 'balancer', '8080'))).trim().split(':').at(-1)!;
    caller = await startCaller(engine.inside, `http://127.0.0.1:${port}`);
  });

  afterEach(async function () {
    if (this.currentTest?.state !== 'failed') return;
    const { stdout } = await compose('logs', '--no-color', '--tail', '40');
    process.stderr.write(`${stdout}\n`);
  });

  after(async function () {
    try {
      caller?.close();
      await compose('down', '-v', '-t', '1');
    } finally {
      await engine.stop();
      process.off('exit', stopNow);
    }
  });

  it('are small: the program adds less than 25 MB to its base image', async () => {
    const size = async (image: string): Promise<number> =>
      Number(await docker('image', 'inspect', '-f', '{{.Size}}', image));
    expect((await size(IMAGE)) - (await size(BASE_IMAGE))).lessThan(MAX_ADDED_BYTES);
  });

  it('run the program as process 1, as nobody special, and cannot write to their own files', async () => {
    const [name] = await nodes();
    const script = `
      const { readFileSync, writeFileSync } = require('node:fs');
      const read = (name) => new RegExp(name + ':\\\\s*(.*)').exec(readFileSync('/proc/1/status', 'utf8'))[1];
      let write = 'possible';
      try { writeFileSync('/app/package.json', ''); } catch (error) { write = error.code; }
      console.log(JSON.stringify({
        command: readFileSync('/proc/1/cmdline', 'utf8').split('\\0').filter(Boolean),
        uid: read('Uid').split('\\t')[0], capabilities: Number(read('CapEff')), noNewPrivileges: read('NoNewPrivs'), write,
      }));`;
    expect(JSON.parse(await docker('exec', name!, 'node', '-e', script))).deep.equals({
      command: ['node', 'dist/esm/cli.js', 'serve'],
      uid: '1000',
      capabilities: 0,
      noNewPrivileges: '1',
      write: 'EROFS',
    });
  });

  it('serve their pages and all that they load', async () => {
    const pages = await fetchPages((path) => caller!.call('GET', path));
    expect([...pages].filter(([, status]) => status !== 200)).deep.equals([]);
    expect([...pages.keys()]).includes.members(['/docs/swagger-ui.js', '/dashboard/charts.js']);
  });

  it('do not start without a secret, and say which', async () => {
    const composed = await engine.docker(['compose', '-f', FILE, '--env-file', '/dev/null', 'config', '-q']);
    expect(composed.code).not.equals(0);
    expect(composed.stderr).contains('TOKENRING_PEER_SECRET').and.contains('is not set, put it in docker/.env');
    const copied = ['compose', '-f', FILE, '--env-file', 'docker/.env.example', 'config', '-q'];
    expect((await engine.docker(copied)).stderr).contains('is not set, put it in docker/.env');
    await succeed(engine.docker(copied, { TOKENRING_PEER_SECRET: SECRET }));
    const alone = await engine.docker(['run', '--rm', IMAGE]);
    expect(alone.code).equals(2);
    expect(alone.stderr).contains('TOKENRING_PEER_SECRET');
  });

  it('become healthy, and form one ring of three', async () => {
    for (const name of await nodes()) {
      expect(await docker('inspect', '-f', '{{.State.Health.Status}}', name)).equals('healthy');
    }
    await ringOf(3);
  });

  it('have the command, which asks the node in its container', async () => {
    const [name] = await nodes();
    const status = JSON.parse(await docker('exec', name!, 'tokenring', 'status', '--json')) as ClusterView;
    expect(status.members.map(({ state }) => state)).deep.equals(['active', 'active', 'active']);
  });

  it('keep policies of the API and take new settings when all are replaced', async () => {
    const policy = { limit: 7, window: '1m' };
    expect((await caller!.call('PUT', '/v1/policies/kept', policy, ADMIN_TOKEN)).status).within(200, 201);
    more = { TOKENRING_RESP_PORT: '6379', TOKENRING_GRPC_PORT: '50051', TOKENRING_LOG_LEVEL: 'info' };
    await succeed(compose('up', '-d', '--no-build', '--wait', '--force-recreate'));
    await ringOf(3);
    for (let i = 0; i < 3; i += 1) {
      const { status, body } = await caller!.call('GET', '/v1/policies/kept');
      expect({ status, ...(JSON.parse(body) as object) }).includes({ status: 200, limit: 7 });
    }
    const [name] = await nodes();
    expect(await docker('logs', name!))
      .contains('"respPort":6379')
      .and.contains('"grpcPort":50051');
    const ping = `const s = require('node:net').connect(6379, 'node', () => s.write('PING\\r\\n'));
      s.on('data', (data) => { console.log(String(data).trim()); s.destroy(); });`;
    expect(await docker('exec', name!, 'node', '-e', ping)).equals('+PONG');
  });

  it('hold the limit of a client, whichever node the balancer asks', async () => {
    await ringOf(3);
    const request = { clientId: 'alice', limit: 100, window: WINDOW };
    const answers = await Promise.all(Array.from({ length: 300 }, () => allow(request)));
    const passed = answers.filter(({ status }) => status === 200).length;
    expect(passed).most(100);
    expect(answers.filter(({ status }) => status === 429)).length(300 - passed);
    // What of it lay with a node as leased tokens is back within a second, and no more than that.
    await sleep(1_500);
    const later = await Promise.all(Array.from({ length: 30 }, () => allow(request)));
    expect(passed + later.filter(({ status }) => status === 200).length).equals(100);
    const sources = new Set(answers.map(({ body }) => (JSON.parse(body) as { source: string }).source));
    expect([...sources]).includes.members(['owner', 'forwarded']);
  });

  it('are joined by two more under load: no request fails, and nothing is forgotten', async () => {
    await scale(3);
    await ringOf(3);
    const expectRemembered = await consume('before-scaling');
    const asked = await underLoad(caller!, { name: 'scaling', ...LOAD }, async () => {
      await scale(5);
      await ringOf(5);
    });
    expect(failures(asked)).deep.equals([]);
    expect(admittedOver(asked, LOAD.limit)).equals(0);
    await expectRemembered();
  });

  it('are stopped under load, first one and then two at once: no request fails, and nothing is forgotten', async () => {
    await scale(5);
    await ringOf(5);
    const expectRemembered = await consume('before-stopping');
    // The last ones, as Compose would choose them too.
    const [two, three, one] = (await nodes()).slice(-3) as [string, string, string];
    const asked = await underLoad(caller!, { name: 'stopping', ...LOAD }, async () => {
      await docker('stop', one);
      await ringOf(4);
      await docker('stop', two, three);
      await ringOf(2);
    });
    for (const name of [one, two, three]) {
      expect(await docker('inspect', '-f', '{{.State.ExitCode}}', name)).equals('0');
    }
    expect(failures(asked)).deep.equals([]);
    expect(admittedOver(asked, LOAD.limit)).equals(0);
    await expectRemembered();
  });

  it('may be killed: only what the dead one was just answering fails, and the limits hold', async () => {
    await scale(3);
    await ringOf(3);
    const expectRemembered = await consume('before-killing');
    await sleep(COPY_AGE_MS);
    const victim = (await nodes()).at(-1)!;
    let killMs = 0;
    let killedMs = 0;
    const asked = await underLoad(caller!, { name: 'killing', ...LOAD }, async () => {
      await sleep(1_000);
      killMs = performance.now();
      await docker('kill', victim);
      killedMs = performance.now();
      await ringOf(2);
    });
    expect(failures(asked).filter(({ sentMs }) => sentMs > killedMs)).deep.equals([]);
    expect(failures(asked)).length.most(LOAD.workers);
    const unsure = asked.filter(
      ({ status, answeredMs }) => status === 200 && answeredMs > killMs - COPY_AGE_MS && answeredMs <= killedMs,
    );
    expect(admittedOver(asked, LOAD.limit)).most(unsure.length);
    await expectRemembered();
  });

  describe('with the profile durable', () => {
    before(async function () {
      this.timeout(120_000);
      more = { COMPOSE_PROFILES: 'durable', TOKENRING_STORE: 'redis://valkey' };
      const images = (await succeed(compose('config', '--images'))).trim().split('\n');
      const valkey = images.find((image) => image.includes('valkey'))!;
      if (!(await engine.has(valkey)))
        await succeed(engine.run('test/docker/stand-in-image.sh', [valkey, '999:1000', 'valkey-server', 'valkey-cli']));
      await succeed(compose('up', '-d', '--no-build', '--wait', '--scale', 'node=3'));
      await ringOf(3);
    });

    it('may all be killed at once, the store too: limits go on where they were', async () => {
      const expectRemembered = await consume('before-the-end');
      // Nothing waits for the store after an interval and a write; the store writes to its disk once a second.
      await sleep(3_000);
      await succeed(compose('kill'));
      await succeed(compose('up', '-d', '--no-build', '--wait', '--scale', 'node=3'));
      await ringOf(3);
      await expectRemembered();
    });

    it('may be recreated, as for new settings: limits go on where they were', async () => {
      const expectRemembered = await consume('before-recreation');
      await succeed(compose('up', '-d', '--no-build', '--wait', '--force-recreate', '--scale', 'node=3'));
      await ringOf(3);
      await expectRemembered();
    });

    it('decide without the store while it is gone', async () => {
      const expectRemembered = await consume('before-without');
      await succeed(compose('stop', '-t', '1', 'valkey'));
      await expectRemembered();
      const expectAlso = await consume('without');
      await succeed(compose('start', 'valkey'));
      await sleep(4_000);
      await succeed(compose('kill', 'node'));
      await succeed(compose('up', '-d', '--no-build', '--wait', '--scale', 'node=3'));
      await ringOf(3);
      await expectRemembered();
      await expectAlso();
    });
  });

  describe('with the profile etcd', () => {
    before(async function () {
      this.timeout(120_000);
      more = { COMPOSE_PROFILES: 'durable,etcd', TOKENRING_DISCOVERY: 'etcd', TOKENRING_ETCD_LEASE_MS: '4000' };
      const images = (await succeed(compose('config', '--images'))).trim().split('\n');
      const etcd = images.find((image) => image.includes('etcd'))!;
      if (!(await engine.has(etcd)))
        await succeed(engine.run('test/docker/stand-in-image.sh', [etcd, '0:0', 'etcd', 'etcdctl']));
      await succeed(compose('up', '-d', '--no-build', '--wait', '--scale', 'node=3'));
      await ringOf(3);
    });

    it('find each other, and one that is killed is out of the ring when its lease is over: nothing is forgotten', async () => {
      const expectRemembered = await consume('etcd-killed');
      await sleep(COPY_AGE_MS);
      await docker('kill', (await nodes()).at(-1)!);
      await ringOf(2);
      await expectRemembered();
    });

    it('go on with the members that they know while etcd is away', async () => {
      await succeed(compose('stop', '-t', '1', 'etcd'));
      const expectRemembered = await consume('etcd-away');
      // Longer than a lease.
      await sleep(5_000);
      await expectRemembered();
      await succeed(compose('start', 'etcd'));
      await scale(3);
      await ringOf(3);
      await expectRemembered();
    });
  });
}

import { expect } from 'chai';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../../src/client/index.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { ClusterDescription } from '../../src/server/http/api/cluster-view.js';
import { CLOSE, connect, exchange, frame, JSON_CLOSE } from '../http/wire.js';
import { expectProblem, type Answer } from '../support/http.js';
import { freePorts } from '../support/ports.js';
import { killAll, serve, tokenring, type Program } from './processes.js';

type Group = Program & { readonly port: number };

const WINDOW_MS = 3_600_000;
/** In which copies are where they belong, however busy the machine is. */
const COPIED_MS = 500;
/** Nobody is taken for dead, or finds that it was away, because the machine is busy. */
const PATIENT = ['--suspect-after-ms', '5000'];

function question(clientId: string, limit: number): Buffer {
  return frame('/v1/allow', JSON.stringify({ clientId, limit, window: WINDOW_MS }), { headers: JSON_CLOSE });
}

/** Over a connection of its own, which goes to the next worker. */
async function ask({ port }: Group, clientId: string, limit: number): Promise<Decision> {
  const [answer] = await exchange(port, question(clientId, limit));
  return answer!.json as Decision;
}

async function get({ port }: Group, path: string): Promise<Answer> {
  const [answer] = await exchange(port, `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${CLOSE}\r\n`);
  return answer!;
}

async function metric(group: Group, name: string): Promise<number> {
  const { text } = await get(group, '/metrics');
  const samples = text.split('\n').filter((line) => line.startsWith(name) && /^[{ ]/.test(line.slice(name.length)));
  expect(samples, name).not.to.have.length(0);
  return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** The workers that are up, the latest of each last. */
async function workers(group: Group, count: number): Promise<readonly { pid: number; node: string }[]> {
  return (await group.lines('worker ready', count)) as unknown as readonly { pid: number; node: string }[];
}

async function until(what: () => Promise<boolean>): Promise<void> {
  while (!(await what())) await sleep(50);
}

async function stop(group: Group): Promise<void> {
  group.child.kill('SIGTERM');
  expect(await group.ended).to.include({ code: 0, stderr: '' });
}

describe('tokenring serve with workers', function () {
  this.timeout(60_000);
  after(killAll);

  it('gives each worker its part of the memory, and of the heap', async () => {
    const group = await serve('--workers', '2', '--memory-mb', '1024', ...PATIENT);
    for (const bounds of await group.lines('bounds on memory', 2)) {
      expect(bounds['memoryMb']).to.equal(480);
      expect(bounds['heapMb']).to.equal(240);
    }
    await stop(group);
  });

  it('is one limiter, one set of figures and one node that is ready, behind one port', async () => {
    const group = await serve('--workers', '3', ...PATIENT);
    // Not before all are.
    expect(await workers(group, 3)).to.have.length(3);
    expect(await group.line('tokenring ready')).to.include({ workers: 3, port: group.port });
    expect((await get(group, '/readyz')).text).to.equal('ready\n');
    const { members } = (await get(group, '/v1/cluster')).json as ClusterDescription;
    expect(members.map(({ state }) => state)).to.deep.equal(['active', 'active', 'active']);
    const selves = new Set<string>();
    // The kernel, where it spreads the connections, does so by chance.
    for (let i = 0; i < 200 && selves.size < 3; i += 1)
      selves.add(((await get(group, '/v1/cluster')).json as ClusterDescription).self);
    expect([...selves]).to.have.members(members.map(({ id }) => id));

    const clients = Array.from({ length: 12 }, (_, i) => `client ${i}`);
    const owners = new Set<string>();
    for (const client of clients) {
      const decisions = await Promise.all(Array.from({ length: 7 }, () => ask(group, client, 5)));
      expect(decisions.filter(({ allowed }) => allowed)).to.have.length(5);
      for (const { owner } of decisions) owners.add(owner);
    }
    expect(owners.size).to.be.above(1);
    expect(await metric(group, 'tokenring_decisions_total')).to.equal(7 * clients.length);
    expect(await metric(group, 'tokenring_decision_seconds_count')).to.equal(7 * clients.length);
    expect(await metric(group, 'tokenring_members{state="active"}')).to.equal(3);
    expect(await metric(group, 'tokenring_workers')).to.equal(3);
    await stop(group);
  });

  it('answers at a port of each worker, too, so that a client that knows the ring asks the owner', async () => {
    const group = await serve('--workers', '2', ...PATIENT);
    const { members } = (await get(group, '/v1/cluster')).json as ClusterDescription;
    const ports = members.map(({ url }) => Number(new URL(url!).port));
    expect(new Set([...ports, group.port]).size).to.equal(3);
    for (const [i, port] of ports.entries()) {
      const { self } = (await get({ ...group, port }, '/v1/cluster')).json as ClusterDescription;
      expect(self).to.equal(members[i]!.id);
    }
    const client = createClient({ nodes: [`http://127.0.0.1:${group.port}`] });
    await client.check({ clientId: 'first', limit: 5, window: '1h' });
    await until(async () => {
      // Until both have answered at their ports, questions go to the shared one.
      const asked = Array.from({ length: 20 }, (_, i) =>
        client.check({ clientId: `${i}`, limit: 1_000, window: '1h' }),
      );
      return (await Promise.all(asked)).every(({ source }) => source === 'owner');
    });
    await client.close();
    await stop(group);
  });

  it('has the workers talk over Unix sockets, which go with them, or with the next group', async () => {
    const parent = mkdtempSync(join(tmpdir(), 'workers-'));
    const flags = ['serve', '--workers', '2', '--port', '0', '--peer-port', '0'];
    const killed = tokenring(flags, { TMPDIR: parent });
    await killed.line('tokenring ready');
    const [abandoned] = readdirSync(parent);
    killed.child.kill('SIGKILL');
    await killed.ended;
    expect(readdirSync(parent)).to.deep.equal([abandoned]);

    const next = tokenring(flags, { TMPDIR: parent });
    await next.line('tokenring ready');
    const [own] = readdirSync(parent);
    expect(own).not.to.equal(abandoned);
    expect(readdirSync(join(parent, own!))).to.have.members(['group', '0', '1']);
    next.child.kill('SIGTERM');
    expect(await next.ended).to.include({ code: 0, stderr: '' });
    expect(readdirSync(parent)).to.deep.equal([]);

    // Without a place for them, they talk over TCP.
    rmSync(parent, { recursive: true });
    const without = tokenring(flags, { TMPDIR: parent });
    await without.line('no Unix sockets between workers; they talk over TCP');
    const { port } = await without.line('tokenring ready');
    for (let i = 0; i < 8; i += 1) await ask({ ...without, port: Number(port) }, `client ${i}`, 5);
    without.child.kill('SIGTERM');
    expect(await without.ended).to.include({ code: 0, stderr: '' });
  });

  it('leaves no request of a new connection without an end when a worker is killed', async () => {
    const group = await serve('--workers', '2', ...PATIENT);
    const ends = { answered: 0, failed: 0 };
    let asking = true;
    // More than the workers answer at once, so that connections are on their way to the victim.
    const callers = Array.from({ length: 64 }, async (_, i) => {
      while (asking) {
        const [answer] = await exchange(group.port, question(`client ${i}`, 1_000_000)).catch(() => []);
        ends[answer === undefined ? 'failed' : 'answered'] += 1;
      }
    });
    for (let kills = 0; kills < 5; kills += 1) {
      const up = await workers(group, 2 + kills);
      process.kill(up.at(-1)!.pid, 'SIGKILL');
      await group.lines('worker ended; restarting it', kills + 1);
    }
    await workers(group, 7);
    asking = false;
    // A connection that nobody answers would hold its caller here for ever.
    await Promise.all(callers);
    expect(ends.answered).to.be.above(ends.failed);
    await stop(group);
  });

  it('starts a killed worker again, which has its buckets back, and admits nothing twice', async () => {
    const group = await serve('--workers', '2', ...PATIENT);
    const clients = Array.from({ length: 40 }, (_, i) => `client ${i}`);
    for (const client of clients) for (let i = 0; i < 2; i += 1) await ask(group, client, 3);
    const before = await metric(group, 'tokenring_decisions_total');
    expect(before).to.equal(2 * clients.length);
    await sleep(COPIED_MS);

    const [victim, other] = await workers(group, 2);
    process.kill(victim!.pid, 'SIGKILL');
    await group.line('worker ended; restarting it');
    expectProblem(await get(group, '/readyz'), 'unavailable');
    // The other one stands in at once.
    const admitted = new Map(clients.map((client) => [client, 2]));
    const askAll = async (): Promise<void> => {
      for (const client of clients) {
        const { allowed, source } = await ask(group, client, 3);
        expect(source).not.to.equal('fallback');
        if (allowed) admitted.set(client, admitted.get(client)! + 1);
      }
    };
    await askAll();
    const again = (await workers(group, 3))[2]!;
    expect(again.node).to.equal(victim!.node);
    await until(async () => (await get(group, '/readyz')).status === 200);
    await askAll();
    expect([...admitted.values()].every((count) => count === 3)).to.equal(true);

    const { members } = (await get(group, '/v1/cluster')).json as ClusterDescription;
    expect(members.map(({ id, state }) => [id, state])).to.have.deep.members([
      [victim!.node, 'active'],
      [other!.node, 'active'],
    ]);
    expect(
      new Set(await Promise.all(clients.map(async (client) => (await ask(group, client, 3)).owner))).size,
    ).to.equal(2);
    // What the killed one had counted still counts.
    expect(await metric(group, 'tokenring_decisions_total')).to.equal(before + 3 * clients.length);
    expect(await metric(group, 'tokenring_worker_restarts_total')).to.equal(1);
    await stop(group);
  });

  it('waits longer each time before it starts a worker that does not live', async () => {
    const group = await serve('--workers', '2');
    for (let lives = 2; lives < 6; lives += 1) {
      const up = await workers(group, lives);
      process.kill(up.at(-1)!.pid, 'SIGKILL');
      await group.lines('worker ended; restarting it', lives - 1);
    }
    const ends = await group.lines('worker ended; restarting it', 4);
    expect(ends.map(({ restartInMs }) => restartInMs)).to.deep.equal([100, 200, 400, 800]);
    await stop(group);
  });

  it('kills a worker that hangs, and starts it again', async () => {
    const group = await serve('--workers', '2', '--suspect-after-ms', '200');
    const [victim] = await workers(group, 2);
    process.kill(victim!.pid, 'SIGSTOP');
    expect(await group.line('worker hangs; killing it')).to.include({ node: victim!.node });
    expect((await workers(group, 3))[2]!.node).to.equal(victim!.node);
    await until(async () => (await get(group, '/readyz')).status === 200);
    await stop(group);
  });

  it('hands all that its workers hold to another machine when it stops, and fails no request', async () => {
    const staying = await serve('--workers', '2', '--peer-host', '127.0.0.2', ...PATIENT);
    const { node: seed } = await staying.line('tokenring ready');
    const going = await serve('--workers', '2', '--peers', String(seed), ...PATIENT);
    await until(async () => (await metric(staying, 'tokenring_members{state="active"}')) === 4);
    const clients = Array.from({ length: 60 }, (_, i) => `client ${i}`);
    for (const client of clients) for (let i = 0; i < 2; i += 1) await ask(going, client, 3);
    const slow = await connect(going.port);
    const bytes = question('client 0', 3);
    const bodyAt = bytes.indexOf('\r\n\r\n') + 4;
    slow.send(bytes.subarray(0, bodyAt + 5));
    await sleep(50);

    const startMs = performance.now();
    // As a service manager does it: to all processes.
    for (const { pid } of await workers(going, 2)) process.kill(pid, 'SIGTERM');
    going.child.kill('SIGTERM');
    await going.lines('stopping', 2);
    expectProblem(await get(going, '/readyz'), 'draining');
    const late = await ask(going, 'client 1', 3);
    expect(late).to.include({ allowed: true, degraded: false });
    slow.send(bytes.subarray(bodyAt + 5));
    expect((await slow.closed())[0]?.json).to.include({ allowed: true });
    expect(await going.ended).to.include({ code: 0, stderr: '' });
    expect(performance.now() - startMs).to.be.below(8_000);

    const admitted = await Promise.all(
      clients.map(async (client) => {
        const decisions = [await ask(staying, client, 3), await ask(staying, client, 3)];
        expect(decisions.every(({ source }) => source !== 'fallback')).to.equal(true);
        return decisions.filter(({ allowed }) => allowed).length;
      }),
    );
    expect(admitted).to.deep.equal(clients.map((_, i) => (i < 2 ? 0 : 1)));
    await stop(staying);
  });

  it('decides on what it knows to the end when nobody stays, and ends within 8 s', async () => {
    const group = await serve('--workers', '2', ...PATIENT);
    for (let i = 0; i < 3; i += 1) await ask(group, 'alice', 3);
    const startMs = performance.now();
    group.child.kill('SIGTERM');
    await group.lines('stopping', 2);
    for (let i = 0; i < 4; i += 1) expect(await ask(group, 'alice', 3)).to.include({ allowed: false, degraded: false });
    expect(await group.ended).to.include({ code: 0, stderr: '' });
    expect(performance.now() - startMs).to.be.below(8_000);
  });

  it('ends within 8 s though one of its workers hangs', async () => {
    const group = await serve('--workers', '2');
    process.kill((await workers(group, 2))[0]!.pid, 'SIGSTOP');
    const startMs = performance.now();
    group.child.kill('SIGTERM');
    expect(await group.ended).to.include({ code: 0, stderr: '' });
    expect(performance.now() - startMs).to.be.below(8_000);
  });

  it('does not wait on a second signal, and leaves nobody behind', async () => {
    const group = await serve('--workers', '2');
    const pids = (await workers(group, 2)).map(({ pid }) => pid);
    group.child.kill('SIGTERM');
    await group.line('stopping workers');
    group.child.kill('SIGTERM');
    expect(await group.ended).to.include({ code: 1 });
    await until(() => Promise.resolve(!pids.some(isRunning)));
  });

  it('ends with all its workers where the supervisor is killed', async () => {
    const group = await serve('--workers', '2');
    const pids = (await workers(group, 2)).map(({ pid }) => pid);
    group.child.kill('SIGKILL');
    await group.ended;
    await until(() => Promise.resolve(!pids.some(isRunning)));
  });

  it('ends with 2 and one line where the public port or the peer port of a worker is taken', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const [byPort, byPeerPort] = await Promise.all([
      tokenring(['serve', '--workers', '2', '--port', String(port), '--peer-port', '0']).ended,
      tokenring(['serve', '--workers', '2', '--port', '0', '--peer-port', String(port - 1)]).ended,
    ]);
    taken.close();
    for (const { code, stderr } of [byPort, byPeerPort]) {
      expect(code).to.equal(2);
      expect(stderr).to.match(/^tokenring: [^\n]*EADDRINUSE[^\n]*\n$/);
    }
    expect(byPeerPort.stderr).to.match(/^tokenring: worker 1: TOKENRING_PEER_PORT: cannot listen on /);
  });

  it('ends with 2 and one line where the own port of a worker is taken, which by default follows the public one', async () => {
    const taken = createServer();
    // Three ports in a row of which the last is taken.
    let port = 0;
    for (let tries = 0; port === 0; tries += 1) {
      expect(tries).to.be.below(100);
      const [last] = await freePorts(1);
      const free = await Promise.all([last! - 2, last! - 1].map(isFree));
      if (free.every(Boolean)) port = last!;
    }
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
    const flags = ['serve', '--workers', '2', '--peer-port', '0', '--port', String(port - 2)];
    const { code, stderr } = await tokenring(flags).ended;
    expect(code).to.equal(2);
    expect(stderr).to.match(
      new RegExp(`^tokenring: worker 1: TOKENRING_WORKER_PORT: cannot listen on 127.0.0.1:${port} [^\\n]*\\n$`),
    );
    const none = tokenring([...flags, '--worker-port', 'none']);
    await none.line('tokenring ready');
    const { members } = (await get({ ...none, port: port - 2 }, '/v1/cluster')).json as ClusterDescription;
    expect(members.map(({ url }) => url)).to.deep.equal(Array(2).fill(`http://127.0.0.1:${port - 2}`));
    none.child.kill('SIGTERM');
    await none.ended;
    taken.close();
  });
});

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
      .once('error', () => resolve(false))
      .listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

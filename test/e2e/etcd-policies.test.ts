import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { request } from 'undici';
import { startEtcd, type EtcdCluster } from '../discovery/etcd-process.js';
import { createGate } from './gate.js';
import { killAll, tokenring, type Program } from './processes.js';
import { eventually } from '../support/eventually.js';
import { describeWith } from '../support/programs.js';

const TOKEN = 'only-of-this-test';
interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

interface Node extends Program {
  readonly port: number;
}

/** A connection of its own: a kept one may end while `etcdctl` holds this process up. */
const ONCE = { reset: true };

async function call(port: number, method: string, path: string, body?: object, headers = {}): Promise<Answer> {
  const response = await request(`http://127.0.0.1:${port}${path}`, {
    ...ONCE,
    method,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}`, ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.statusCode, body: (await response.body.json()) as Record<string, unknown> };
}

const put = ({ port }: Node, name: string, limit: number, ifMatch?: string): Promise<Answer> =>
  call(port, 'PUT', `/v1/policies/${name}`, { limit, window: '1h' }, ifMatch && { 'if-match': ifMatch });
const versionAt = async ({ port }: Node): Promise<number> =>
  (await call(port, 'GET', '/v1/policies')).body['version'] as number;

/** The limit of a policy by a decision; `undefined` where there is none of this name. */
async function limitAt({ port }: Node, policy: string): Promise<number | undefined> {
  const { body } = await call(port, 'POST', '/v1/allow', { clientId: 'x', policy, peek: true });
  return body['limit'] as number | undefined;
}

async function metricAt({ port }: Node, name: string): Promise<number> {
  const text = await (await request(`http://127.0.0.1:${port}/metrics`, ONCE)).body.text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

/** @returns after how many ms it was so */
async function until(holds: () => Promise<boolean>, forMs = 10_000): Promise<number> {
  const startedMs = performance.now();
  while (!(await holds())) {
    if (performance.now() - startedMs > forMs) throw new Error(`not so within ${forMs} ms`);
    await sleep(10);
  }
  return performance.now() - startedMs;
}

describeWith('policies of real processes in a real etcd', 'etcd', function () {
  this.timeout(90_000);
  let etcd: EtcdCluster;
  let folder: string;
  const audits: string[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    audits.length = 0;
  });
  afterEach(async () => {
    killAll();
    await etcd.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function begin(size: number, flags: readonly string[] = []): Promise<void> {
    etcd = await startEtcd({ size, flags });
    await etcd.ready();
  }

  async function start(flags: readonly string[] = [], endpoints = etcd.endpoints): Promise<Node> {
    const where = ['--discovery', 'etcd', '--etcd-endpoints', endpoints.join(), '--etcd-lease-ms', '3000'];
    return startWith([...where, ...flags]);
  }

  async function startWith(flags: readonly string[]): Promise<Node> {
    const audit = join(folder, `audit-${audits.length}`);
    audits.push(audit);
    const fixed = ['serve', '--port', '0', '--peer-port', '0', '--admin-token', TOKEN, '--audit-log', audit];
    const program = tokenring([...fixed, ...flags]);
    const { port } = await program.line('tokenring ready');
    return { ...program, port: port as number };
  }

  const startAll = (flags: readonly string[] = []): Promise<Node[]> => Promise.all([0, 1, 2].map(() => start(flags)));

  async function kill(nodes: readonly Node[]): Promise<void> {
    for (const { child } of nodes) child.kill('SIGKILL');
    await Promise.all(nodes.map(({ ended }) => ended));
  }

  /** Changes of policies that the audit logs of all nodes have: the lines of each. */
  function audited(): Record<string, unknown>[] {
    const lines = audits.flatMap((path) => {
      try {
        return readFileSync(path, 'utf8').trim().split('\n');
      } catch {
        return [];
      }
    });
    return lines.filter(Boolean).map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  function etcdctl(...args: string[]): string {
    const env = { ...process.env, ETCDCTL_API: '3' };
    return execFileSync('etcdctl', ['--endpoints', etcd.endpoints.join(), ...args], { env, encoding: 'utf8' });
  }

  it('are seen at all nodes in less than a second, by one that joins, and after all were killed', async () => {
    await begin(1);
    let nodes = await startAll();
    for (let limit = 1; limit <= 10; limit += 1) {
      const startedMs = performance.now();
      const { status, body } = await put(nodes[limit % 3]!, 'api', limit);
      expect([status, body['version']]).to.deep.equal([200, limit]);
      for (const node of nodes) expect(await limitAt(node, 'api')).to.equal(limit);
      expect(performance.now() - startedMs).to.be.below(1_000);
    }
    expect(await limitAt(await start(), 'api')).to.equal(10);
    killAll();
    await sleep(100);
    nodes = await startAll();
    for (const node of nodes) expect(await limitAt(node, 'api')).to.equal(10);
    expect(await put(nodes[0]!, 'api', 11, '10')).to.deep.include({ status: 200 });
    expect(JSON.parse(etcdctl('get', '--print-value-only', '/tokenring/policies'))).to.include({ version: 11 });
  });

  it('of 50 who write at once from the same version, at three nodes, take one each time, and answer 412 to the others', async () => {
    await begin(3);
    const nodes = await startAll();
    let version = 0;
    for (let round = 0; round < 8; round += 1) {
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, i) => put(nodes[i % 3]!, 'api', 100 * round + i, String(version))),
      );
      const won = answers.flatMap(({ status }, i) => (status === 200 ? [i] : []));
      expect(won, `round ${round}`).to.have.lengthOf(1);
      expect(answers.filter(({ status }) => status === 412)).to.have.lengthOf(49);
      version += 1;
      expect(answers[won[0]!]!.body).to.include({ version, limit: 100 * round + won[0]! });
      for (const node of nodes) await until(async () => (await limitAt(node, 'api')) === 100 * round + won[0]!);
    }
    const lines = audited();
    expect(lines.map(({ target }) => target)).to.have.members(
      Array.from({ length: version }, (_, i) => `version ${i + 1}`),
    );
    // What was before one is what was after the one before, whoever wrote them.
    const byVersion = new Map(lines.map((line) => [line['target'], line]));
    for (let one = 2; one <= version; one += 1)
      expect(byVersion.get(`version ${one}`)!['before']).to.deep.equal(byVersion.get(`version ${one - 1}`)!['after']);
  });

  it('are changed again after the election where the leader of etcd was killed', async () => {
    await begin(3);
    const nodes = await startAll();
    expect(await put(nodes[0]!, 'api', 1)).to.deep.include({ status: 200 });
    await etcd.members[await etcd.leader()]!.kill();
    const startedMs = performance.now();
    const answers = await Promise.all(nodes.map((node, i) => put(node, `p${i}`, 5)));
    expect(answers.map(({ status }) => status)).to.deep.equal([200, 200, 200]);
    expect(performance.now() - startedMs).to.be.below(7_000);
    for (const node of nodes)
      for (const name of ['p0', 'p1', 'p2']) await until(async () => (await limitAt(node, name)) === 5);
    expect(await versionAt(nodes[0]!)).to.equal(4);
  });

  it('stay in force while all of etcd is away; a change is answered 503 with why, and whether it was made', async () => {
    await begin(3);
    const nodes = await startAll();
    await put(nodes[0]!, 'api', 1);
    for (const member of etcd.members) member.signal('SIGSTOP');
    const frozen = await put(nodes[1]!, 'api', 2);
    expect(frozen).to.deep.include({ status: 503 });
    expect(frozen.body).to.include({ code: 'unavailable' });
    expect(frozen.body['detail']).to.match(
      /^etcd takes no change of policies now: .*; it may have changed; read it again$/,
    );
    for (const node of nodes) expect(await limitAt(node, 'api')).to.equal(1);
    for (const member of etcd.members) member.signal('SIGCONT');
    await Promise.all(etcd.members.map((member) => member.kill()));
    const gone = await put(nodes[1]!, 'api', 3);
    expect(gone.status).to.equal(503);
    expect(gone.body['detail'])
      .to.include('ECONNREFUSED')
      .and.to.match(/; nothing has changed$/);
    for (const member of etcd.members) member.restart();
    await etcd.ready();
    await until(async () => (await put(nodes[1]!, 'api', 4)).status === 200);
    for (const node of nodes) await until(async () => (await limitAt(node, 'api')) === 4);
  });

  it('that somebody spoilt with etcdctl are refused whole, named in the log and a metric, and mended by deleting the key', async () => {
    await begin(1);
    const nodes = await startAll();
    await put(nodes[0]!, 'api', 1);
    etcdctl('put', '/tokenring/policies', '{"format":1,"version":9,"entries":[["policy api",{"limit":"x"},9,"me"]]}');
    for (const node of nodes) {
      const { reason } = await node.line('the policies in the registry are not valid; keeping those in force');
      expect(reason).to.equal('/tokenring/policies: an entry that is not valid: "policy api"');
      expect(await metricAt(node, 'tokenring_etcd_policies_valid')).to.equal(0);
      expect(await limitAt(node, 'api')).to.equal(1);
    }
    const refused = await put(nodes[0]!, 'api', 2);
    expect(refused.status).to.equal(503);
    expect(refused.body['detail']).to.include('/tokenring/policies: an entry that is not valid: "policy api"');
    // One that starts meanwhile has them from the others.
    expect(await limitAt(await start(), 'api')).to.equal(1);
    etcdctl('del', '/tokenring/policies');
    for (const node of nodes) await until(async () => (await metricAt(node, 'tokenring_etcd_policies_valid')) === 1);
    expect(await put(nodes[1]!, 'api', 2, '1')).to.deep.include({ status: 200 });
    for (const node of nodes) await until(async () => (await limitAt(node, 'api')) === 2);
  });

  it('are written down again by the nodes where all that was in etcd is lost, and versions go on', async () => {
    await begin(1);
    const nodes = await startAll();
    for (const limit of [1, 2, 3]) await put(nodes[0]!, 'api', limit);
    etcdctl('del', '--prefix', '/tokenring/');
    await until(() =>
      Promise.resolve(etcdctl('get', '--print-value-only', '/tokenring/policies').includes('"version":3')),
    );
    await until(async () => (await put(nodes[1]!, 'api', 4, '3')).status === 200);
    for (const node of nodes) await until(async () => (await limitAt(node, 'api')) === 4);
    for (const node of nodes) expect(await versionAt(node)).to.equal(4);
  });

  it('that etcd finds too large are refused with how large they are, and change nothing', async () => {
    await begin(1, ['--max-request-bytes', '4096']);
    const node = await start();
    const tiers = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`tier-${i}`, { limit: i, window: '1h' }]));
    const answers: Answer[] = [];
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      answers.push(await call(node.port, 'PUT', `/v1/policies/${name}`, { tiers, defaultTier: 'tier-1' }));
    const made = answers.filter(({ status }) => status === 200).length;
    expect(answers.map(({ status }) => status)).to.deep.equal([
      ...Array<number>(made).fill(200),
      ...Array<number>(5 - made).fill(409),
    ]);
    expect(made).to.be.within(1, 4);
    expect(answers[made]!.body).to.include({ code: 'too_many_policies' });
    expect(answers[made]!.body['detail']).to.match(/\d+ bytes, etcdserver: request is too large$/);
    expect(await versionAt(node)).to.equal(made);
  });

  it('are not changed at a node that is cut off from etcd, strict or not, which has them from its peers', async () => {
    await begin(3);
    for (const flags of [[], ['--strict', 'true', '--on-unavailable', 'closed']]) {
      const gates = await Promise.all(etcd.endpoints.map(createGate));
      const prefix = ['--etcd-prefix', `/${flags.length}/`, ...flags];
      const cut = await start(
        prefix,
        gates.map(({ endpoint }) => endpoint),
      );
      const others = [await start(prefix), await start(prefix)];
      await put(others[0]!, 'api', 1);
      for (const gate of gates) gate.cut();
      const [refused, made] = await Promise.all([put(cut, 'api', 2, '1'), put(others[0]!, 'api', 3, '1')]);
      expect([refused.status, made.status]).to.deep.equal([503, 200]);
      await until(async () => (await versionAt(cut)) === 2);
      expect((await call(cut.port, 'GET', '/v1/policies/api')).body['limit']).to.equal(3);
      for (const gate of gates) gate.close();
      await kill([cut, ...others]);
    }
  });

  it('in files that are the same on all nodes are changed by one of them, and a restart undoes nothing', async () => {
    await begin(1);
    const path = join(folder, 'policies.json');
    const write = (policies: object): void => writeFileSync(path, JSON.stringify({ policies }));
    const hourly = (limit: number): object => ({ limit, window: '1h' });
    write({ api: hourly(1), other: hourly(2) });
    const flags = ['--policies', path, '--policies-state', 'none'];
    let nodes = await startAll(flags);
    for (const node of nodes) expect(await limitAt(node, 'api')).to.equal(1);
    expect(audited().map(({ target }) => target)).to.deep.equal(['version 1']);
    await put(nodes[0]!, 'api', 10);
    write({ api: hourly(1), other: hourly(3) });
    const waited = await Promise.all(nodes.map((node) => until(async () => (await limitAt(node, 'other')) === 3)));
    expect(Math.max(...waited)).to.be.below(1_000);
    await sleep(600);
    for (const node of nodes) expect(await limitAt(node, 'api')).to.equal(10);
    const lines = audited();
    expect(lines.map(({ target }) => target)).to.have.members(['version 1', 'version 2', 'version 3']);
    const last = lines.find(({ target }) => target === 'version 3');
    expect(last).to.deep.include({ who: { file: path } });
    expect((last!['before'] as Record<string, unknown>)['policy other']).to.deep.equal(hourly(2));
    await kill(nodes);
    nodes = await startAll(flags);
    for (const node of nodes) expect(await limitAt(node, 'api')).to.equal(10);
    expect(await versionAt(nodes[0]!)).to.equal(3);
    expect(audited()).to.have.lengthOf(3);
  });

  it('that a static cluster kept in its files are merged in when it moves to etcd', async () => {
    await begin(1);
    const states = [0, 1].map((i) => join(folder, `state-${i}`));
    const still = await startWith(['--policies-state', states[0]!]);
    await put(still, 'api', 1);
    await put(still, 'api', 2);
    still.child.kill('SIGTERM');
    await still.ended;
    writeFileSync(states[1]!, readFileSync(states[0]!));
    const first = await start(['--policies-state', states[0]!]);
    expect(await limitAt(first, 'api')).to.equal(2);
    expect(await put(first, 'api', 3, '2')).to.deep.include({ status: 200 });
    // Another has been away since.
    const second = await start(['--policies-state', states[1]!]);
    for (const node of [first, second]) expect(await limitAt(node, 'api')).to.equal(3);
    expect(await versionAt(second)).to.equal(3);
    // The node saves what it took from etcd on its own time.
    const registryOf = (): string | null =>
      (JSON.parse(readFileSync(states[1]!, 'utf8')) as { registry: string | null }).registry;
    const registry = await eventually(registryOf, (one) => one !== null);
    expect(registry).to.equal(etcdctl('get', '--print-value-only', '/tokenring/registry').trim());
  });
});

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { bundledDist } from '../support/dist.js';
import { createCluster, type Cluster } from './cluster.js';
import { startEtcdOn, type EtcdOnHosts } from './etcd-hosts.js';
import { createNamespaces, type CuttableNetwork } from './namespaces.js';
import { missingTool } from './tools.js';
import { pending } from '../support/programs.js';

const NODES = 5;
const ETCDS = 3;
const TOKEN = 'only-of-this-test';
const SETTINGS = ['--peer-secret', 'known to the nodes of this test only', '--admin-token', TOKEN];
/** Each node is asked by so many at once. */
const WRITERS = 4;
const why = missingTool('namespaces') ?? missingTool('etcd');

interface Call {
  readonly node: number;
  readonly method: 'GET' | 'PUT';
  readonly limit?: number;
  readonly ifMatch?: string;
}

interface Answer {
  readonly status: number;
  readonly version: number;
  readonly limit: number;
  readonly detail: string | undefined;
}

/** What a process in a network of its own does: all calls at once. */
const CALLER = `
const calls = JSON.parse(process.argv[1]);
const answers = await Promise.all(calls.map(async ({ url, ...more }) => {
  const response = await fetch(url, more);
  return { status: response.status, ...(await response.json()) };
}));
console.log(JSON.stringify(answers));`;

describe(`policies of five real nodes and an etcd of three that are cut`, function () {
  this.timeout(120_000);
  let folder: string;
  let network: CuttableNetwork;
  let etcd: EtcdOnHosts;
  let cluster: Cluster;

  before(async function () {
    if (why !== undefined) pending(this, why);
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    network = createNamespaces(NODES + ETCDS);
    etcd = await startEtcdOn(network.nodes.slice(NODES), network.outside);
    await etcd.elected();
    const where = ['--discovery', 'etcd', '--etcd-endpoints', etcd.endpoints, '--etcd-lease-ms', '2000'];
    const settings = [...SETTINGS, ...where];
    cluster = createCluster({ network, dist: bundledDist(), settings, env: () => ({}), folder });
    await Promise.all(Array.from({ length: NODES }, (_, i) => cluster.start(i).ready));
  });
  after(async () => {
    if (why !== undefined) return;
    await cluster.close();
    await etcd.close();
    network.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function call(calls: readonly Call[]): Promise<Answer[]> {
    const asked = calls.map(({ node, method, limit, ifMatch }) => ({
      url: `${cluster.nodes[node]!.url}/v1/policies/api`,
      method,
      headers: {
        authorization: `Bearer ${TOKEN}`,
        'content-type': 'application/json',
        ...(ifMatch !== undefined && { 'if-match': ifMatch }),
      },
      ...(limit !== undefined && { body: JSON.stringify({ limit, window: '1h' }) }),
    }));
    const args = ['--input-type=module', '-e', CALLER, JSON.stringify(asked)];
    const [command, ...rest] = [...network.outside.prefix, process.execPath, ...args] as [string, ...string[]];
    const { stdout } = await promisify(execFile)(command, rest, { encoding: 'utf8' });
    return JSON.parse(stdout) as Answer[];
  }

  const everywhere = (): Promise<Answer[]> =>
    call(Array.from({ length: NODES }, (_, node) => ({ node, method: 'GET' as const })));

  /** Cuts all of these hosts off from all others, but for the one that asks. */
  function cutOff(some: readonly number[]): void {
    const others = Array.from({ length: NODES + ETCDS }, (_, i) => i).filter((i) => !some.includes(i));
    network.cutAll(
      some.flatMap((a) =>
        others.flatMap((b): [number, number][] => [
          [a, b],
          [b, a],
        ]),
      ),
    );
  }

  /** Writes at all nodes at once, from the version that `seenAt` has, again and again. @returns all answers, by round */
  async function writeAt(seenAt: number, rounds: number): Promise<Answer[][]> {
    const answers: Answer[][] = [];
    for (let round = 0; round < rounds; round += 1) {
      const [seen] = await call([{ node: seenAt, method: 'GET' }]);
      answers.push(
        await call(
          Array.from({ length: NODES * WRITERS }, (_, i) => ({
            node: i % NODES,
            method: 'PUT' as const,
            limit: 1_000 * (limits += 1),
            ifMatch: String(seen!.version),
          })),
        ),
      );
    }
    return answers;
  }
  let limits = 0;

  /** All nodes have the same, which is the last that was made. */
  async function settle(version: number, limit: number): Promise<void> {
    for (let tries = 0; ; tries += 1) {
      const answers = await everywhere();
      if (answers.every((one) => one.version === version) || tries > 50) {
        expect(answers.map((one) => [one.version, one.limit])).to.deep.equal(answers.map(() => [version, limit]));
        return;
      }
      await sleep(100);
    }
  }

  it('are changed on the side of the majority of etcd alone, once a version, though its leader is on the other', async () => {
    const [first] = await call([{ node: 0, method: 'PUT', limit: 1 }]);
    expect(first).to.include({ status: 200, version: 1 });
    await settle(1, 1);
    const off = [0, 1];
    cutOff([...off, NODES + etcd.leader()]);
    let version = 1;
    let limit = 1;
    const seenAt = NODES - 1;
    for (const answers of await writeAt(seenAt, 3)) {
      const won = answers.filter(({ status }) => status === 200);
      for (const [i, one] of answers.entries())
        if (off.includes(i % NODES)) expect(one.status, JSON.stringify(one)).to.equal(503);
      expect(won.length).to.be.at.most(1);
      if (won[0] === undefined) continue;
      version += 1;
      expect(won[0].version).to.equal(version);
      ({ limit } = won[0]);
    }
    expect(version).to.be.above(1);
    network.heal();
    await settle(version, limit);
    const [again] = await call([{ node: 0, method: 'PUT', limit: 7, ifMatch: String(version) }]);
    expect(again).to.include({ status: 200, version: version + 1 });
  });

  it('are changed nowhere while no node reaches etcd, and no version is lost or used twice', async () => {
    const [before] = await call([{ node: 0, method: 'GET' }]);
    cutOff(Array.from({ length: ETCDS }, (_, i) => NODES + i));
    const [answers] = await writeAt(0, 1);
    for (const one of answers!) {
      expect(one.status).to.equal(503);
      expect(one.detail).to.match(/^etcd takes no change of policies now: /);
    }
    for (const { version, limit } of await everywhere())
      expect([version, limit]).to.deep.equal([before!.version, before!.limit]);
    network.heal();
    const { version } = before!;
    for (let tries = 0; tries < 50; tries += 1) {
      const [again] = await call([{ node: 3, method: 'PUT', limit: 9 }]);
      if (again!.status !== 200) continue;
      expect(again!.version).to.be.within(version + 1, version + 2);
      return settle(again!.version, 9);
    }
    throw new Error('no change is taken after healing');
  });
});

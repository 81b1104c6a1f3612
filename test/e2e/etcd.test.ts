import { expect } from 'chai';
import { setTimeout as sleep } from 'node:timers/promises';
import { startEtcd, type EtcdCluster } from '../discovery/etcd-process.js';
import { createGate } from './gate.js';
import { killAll, tokenring, type Program } from './processes.js';
import { describeWith } from '../support/programs.js';

const LIMIT = 5;
interface Answer {
  readonly allowed: boolean;
  readonly source: string;
}

async function allow(port: number, clientId: string): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/allow`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ clientId, limit: LIMIT, window: '1h' }),
  });
  return (await response.json()) as Answer;
}

async function readiness(port: number): Promise<number> {
  return (await fetch(`http://127.0.0.1:${port}/readyz`)).status;
}

describeWith('real processes with a real etcd of three', 'etcd', function () {
  this.timeout(90_000);
  let etcd: EtcdCluster | undefined;
  afterEach(async () => {
    killAll();
    await etcd?.close();
    etcd = undefined;
  });

  async function startAll(...flags: string[]): Promise<{ nodes: Program[]; ports: number[] }> {
    etcd = await startEtcd({ size: 3 });
    await etcd.ready();
    const where = ['--discovery', 'etcd', '--etcd-endpoints', etcd.endpoints.join(), '--etcd-lease-ms', '3000'];
    const nodes = [0, 1, 2].map(() => tokenring(['serve', '--port', '0', '--peer-port', '0', ...where, ...flags]));
    const ports = await Promise.all(nodes.map(async (node) => (await node.line('tokenring ready'))['port'] as number));
    return { nodes, ports };
  }

  /** How many of some requests, to the nodes in turn, were allowed. */
  async function exhaust(ports: readonly number[], clientId: string): Promise<number> {
    let allowed = 0;
    for (let i = 0; i < LIMIT + 3; i += 1) if ((await allow(ports[i % ports.length]!, clientId)).allowed) allowed += 1;
    return allowed;
  }

  it('keeps its members and limits while the leader of etcd is killed, and with all of it frozen', async () => {
    const { ports } = await startAll();
    for (let i = 0; i < 5; i += 1) expect(await exhaust(ports, `before ${i}`)).to.equal(LIMIT);
    await etcd!.members[await etcd!.leader()]!.kill();
    await sleep(5_000);
    for (let i = 0; i < 5; i += 1) expect(await exhaust(ports, `killed ${i}`)).to.equal(LIMIT);
    for (const member of etcd!.members) member.signal('SIGSTOP');
    await sleep(4_000);
    for (let i = 0; i < 5; i += 1) expect(await exhaust(ports, `frozen ${i}`)).to.equal(LIMIT);
    for (let i = 0; i < 5; i += 1) expect(await exhaust(ports, `before ${i}`)).to.equal(0);
    for (const member of etcd!.members) member.signal('SIGCONT');
  });

  it('in strict mode decides until the lease ends where all of etcd is frozen, then nobody, then all again', async () => {
    const { ports } = await startAll('--strict', 'true', '--on-unavailable', 'closed');
    for (const member of etcd!.members) member.signal('SIGSTOP');
    expect(await exhaust(ports, 'within the lease')).to.equal(LIMIT);
    await sleep(3_500);
    for (const port of ports) expect(await allow(port, 'after')).to.include({ allowed: false, source: 'fallback' });
    for (const port of ports) expect(await readiness(port)).to.equal(503);
    for (const member of etcd!.members) member.signal('SIGCONT');
    for (let tries = 0; tries < 100 && !(await allow(ports[0]!, `again ${tries}`)).allowed; tries += 1)
      await sleep(100);
    await sleep(3_000);
    for (const port of ports) expect(await readiness(port)).to.equal(200);
    expect(await exhaust(ports, 'afterwards')).to.equal(LIMIT);
    expect(await exhaust(ports, 'within the lease')).to.equal(0);
  });

  it('in strict mode has others decide for a node that is cut off from etcd alone, once, and has it ask them', async () => {
    etcd = await startEtcd({ size: 3 });
    await etcd.ready();
    const gates = await Promise.all(etcd.endpoints.map(createGate));
    const strict = ['--strict', 'true', '--on-unavailable', 'closed', '--replicas', '2', '--etcd-lease-ms', '3000'];
    const start = (endpoints: readonly string[]): Program => {
      const where = ['--discovery', 'etcd', '--etcd-endpoints', endpoints.join()];
      return tokenring(['serve', '--port', '0', '--peer-port', '0', ...where, ...strict]);
    };
    const nodes = [start(gates.map(({ endpoint }) => endpoint)), start(etcd.endpoints), start(etcd.endpoints)];
    const ports = await Promise.all(nodes.map(async (node) => (await node.line('tokenring ready'))['port'] as number));
    const clients = Array.from({ length: 20 }, (_, i) => `client ${i}`);
    const allowed = new Map(clients.map((clientId) => [clientId, 0]));
    const askAll = async (): Promise<void> => {
      await Promise.all(
        clients.map(async (clientId, i) => {
          const answer = await allow(ports[i % 3]!, clientId);
          if (answer.allowed) allowed.set(clientId, allowed.get(clientId)! + 1);
        }),
      );
    };
    await askAll();
    for (const gate of gates) gate.cut();
    for (let i = 0; i < 12; i += 1) {
      await askAll();
      await sleep(400);
    }
    const { members } = (await (await fetch(`http://127.0.0.1:${ports[1]!}/v1/cluster`)).json()) as {
      members: unknown[];
    };
    expect(members).to.have.lengthOf(2);
    for (const clientId of clients)
      for (const port of ports) {
        const answer = await allow(port, clientId);
        if (answer.allowed) allowed.set(clientId, allowed.get(clientId)! + 1);
      }
    for (const gate of gates) gate.close();
    expect([...allowed.values()]).to.deep.equal(clients.map(() => LIMIT));
  });
});

import { expect } from 'chai';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../support/ports.js';
import { killAll, tokenring, type Program } from './processes.js';

const CLIENTS = 30;
const LIMIT = 5;

interface Answer {
  readonly clientId: string;
  readonly allowed: boolean;
  readonly degraded: boolean;
  readonly source: string;
}

describe('a change of the peer secret', function () {
  this.timeout(180_000);
  afterEach(killAll);

  it('in three rolling restarts under load fails no request, admits no client again, and keeps one ring', async () => {
    const ports = await freePorts(6);
    const nodes = [0, 1, 2].map((i) => ({ port: ports[i]!, peerPort: ports[i + 3]! }));
    const peers = nodes.map(({ peerPort }) => `127.0.0.1:${peerPort}`).join();
    const start = ({ port, peerPort }: (typeof nodes)[number], secret: string): Program => {
      // Where requests may go is decided here, so that none goes to a node that stops.
      const flags = { port, 'peer-port': peerPort, peers, 'suspect-after-ms': 5_000 };
      const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
      return tokenring(['serve', ...args], { TOKENRING_PEER_SECRET: secret });
    };
    const programs = nodes.map((node) => start(node, 'old'));
    await Promise.all(programs.map((program) => program.line('tokenring ready')));

    const answers: Answer[] = [];
    const failures: string[] = [];
    const inFlight = nodes.map(() => 0);
    const open = new Set([0, 1, 2]);
    const stopped = new AbortController();
    let turn = 0;
    async function ask(index: number): Promise<void> {
      const clientId = `client-${turn % CLIENTS}`;
      inFlight[index]! += 1;
      try {
        const answer = await fetch(`http://127.0.0.1:${nodes[index]!.port}/v1/allow`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ clientId, limit: LIMIT, window: '30d' }),
        });
        const body = (await answer.json()) as Omit<Answer, 'clientId'>;
        if (![200, 429].includes(answer.status)) failures.push(`${answer.status} ${JSON.stringify(body)}`);
        else answers.push({ ...body, clientId });
      } catch (error) {
        failures.push(String(error));
      }
      inFlight[index]! -= 1;
    }
    const load = (async () => {
      while (!stopped.signal.aborted) {
        turn += 1;
        void ask([...open][turn % open.size]!);
        await sleep(10);
      }
    })();
    const rings = async (): Promise<string[]> =>
      Promise.all(
        nodes.map(async ({ port }) => {
          const { members } = (await (await fetch(`http://127.0.0.1:${port}/v1/cluster`)).json()) as {
            members: { id: string; state: string }[];
          };
          return members
            .map(({ id, state }) => `${id} ${state}`)
            .toSorted()
            .join();
        }),
      );
    const whole = nodes
      .map(({ peerPort }) => `127.0.0.1:${peerPort} active`)
      .toSorted()
      .join();
    async function isWhole(): Promise<void> {
      for (let tries = 0; tries < 200; tries += 1) {
        if ((await rings()).every((ring) => ring === whole)) return;
        await sleep(50);
      }
      expect(await rings()).to.deep.equal([whole, whole, whole]);
    }

    await isWhole();
    // Every client has used up its limit before the first change.
    while (answers.length < 2 * CLIENTS * LIMIT && failures.length === 0) await sleep(50);
    for (const secret of ['old,new', 'new,old', 'new']) {
      for (const [index, node] of nodes.entries()) {
        open.delete(index);
        while (inFlight[index]! > 0) await sleep(5);
        programs[index]!.child.kill('SIGTERM');
        expect(await programs[index]!.ended).to.include({ code: 0 });
        programs[index] = start(node, secret);
        await programs[index].line('tokenring ready');
        await isWhole();
        open.add(index);
      }
    }
    stopped.abort();
    await load;
    while (inFlight.some((count) => count > 0)) await sleep(5);

    expect(failures).to.deep.equal([]);
    expect(answers.filter(({ degraded, source }) => degraded || source === 'fallback')).to.deep.equal([]);
    const admitted = Array.from(
      { length: CLIENTS },
      (_, i) => answers.filter(({ clientId, allowed }) => allowed && clientId === `client-${i}`).length,
    );
    expect(admitted).to.deep.equal(new Array(CLIENTS).fill(LIMIT));
    for (const program of programs) program.child.kill('SIGTERM');
    const outputs = await Promise.all(programs.map(async ({ ended }) => (await ended).stdout));
    for (const output of outputs) expect(output).not.to.include('wrong_secret');
  });
});

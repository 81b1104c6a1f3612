import { expect } from 'chai';
import { createClient } from '../../src/client/index.js';
import { freePorts } from '../support/ports.js';
import { killAll, serve, start } from './processes.js';

const DAY = { limit: 20, window: '1d' } as const;

describe('the client of a package', function () {
  this.timeout(90_000);
  afterEach(killAll);

  it('has every question answered while a node is killed, and one is frozen', async () => {
    const ports = await freePorts(6);
    const peers = ports.slice(3).map((port) => `127.0.0.1:${port}`);
    const nodes = await Promise.all(
      peers.map((peer, i) =>
        serve('--port', `${ports[i]!}`, '--peer-port', peer.slice(peer.indexOf(':') + 1), '--peers', peers.join(',')),
      ),
    );
    const client = createClient({
      nodes: ports.slice(0, 3).map((port) => `http://127.0.0.1:${port}`),
      timeoutMs: 10_000,
    });
    let asked = 0;
    let over = false;
    const isOver = (): boolean => over;
    const answers: { allowed: boolean; degraded: boolean; source: string }[] = [];
    const failures: unknown[] = [];
    const asking = Array.from({ length: 4 }, async () => {
      while (!isOver()) {
        const clientId = `client ${(asked += 1)}`;
        await client.check({ clientId, ...DAY }).then(
          (decision) => answers.push(decision),
          (error: unknown) => failures.push(error),
        );
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    });
    const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
    // Until it knows the ring.
    const isDirect = (): boolean =>
      answers.length >= 50 && answers.slice(-50).every(({ source }) => source === 'owner');
    for (let tries = 0; tries < 200 && !isDirect(); tries += 1) await pause(100);
    const before = answers.slice(-50);
    nodes[0]!.child.kill('SIGKILL');
    await pause(2_500);
    nodes[1]!.child.kill('SIGSTOP');
    await pause(2_500);
    nodes[1]!.child.kill('SIGCONT');
    await pause(500);
    over = true;
    await Promise.all(asking);
    expect(failures).to.deep.equal([]);
    expect(answers).to.have.lengthOf(asked);
    expect(new Set(before.map(({ source }) => source))).to.deep.equal(new Set(['owner']));
    expect(answers.filter(({ allowed, source }) => !allowed || source === 'fallback')).to.deep.equal([]);
    await client.close();
  });

  const use = (port: number): string => `
    const client = createClient({ nodes: ['http://127.0.0.1:${port}'] });
    const answers = [await client.allow(process.argv[1], 1, 60000), await client.allow(process.argv[1], 1, '1m')];
    const error = await client.allow('', 1, 1).catch((error) => error);
    console.log(JSON.stringify([answers, error instanceof TokenringError, error.code]));`;

  it('is imported and required, and lets its process end though nobody closes it', async () => {
    const { port } = await serve();
    const ways = [
      ['module', `import { createClient, TokenringError } from 'tokenring/client'; ${use(port)}`],
      [
        'commonjs',
        `const { createClient, TokenringError } = require('tokenring/client'); (async () => { ${use(port)} })();`,
      ],
    ] as const;
    for (const [type, code] of ways) {
      const { code: exit, stdout, stderr } = await start([`--input-type=${type}`, '-e', code, type]).ended;
      const printed = '[[true,false],true,"invalid_request"]\n';
      expect({ exit, stdout, stderr }).to.deep.equal({ exit: 0, stdout: printed, stderr: '' });
    }
  });
});

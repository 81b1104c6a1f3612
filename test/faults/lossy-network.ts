import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNamespaces } from './namespaces.js';
import type { Network } from './network.js';
import { run, start, undoAtEnd, type Started } from './processes.js';

/** Namespaces whose nodes reach each other over wires that lose and delay packets, and the load over good ones. */
export interface LossyNetwork extends Network {
  /** Between two nodes, in each direction. */
  degrade(lossPercent: number, delayMs: number): Promise<void>;
}

const SUBNET = '10.99.2';

/** @throws Error without root, or without the programs `ip`, `nft` and those of vde2 */
export async function createLossyNetwork(nodes: number): Promise<LossyNetwork> {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-wires-'));
  const namespaces = createNamespaces(nodes);
  const started: Started[] = [];
  const launch = (...command: string[]): void =>
    void started.push(start(command, { stdio: ['pipe', 'ignore', 'ignore'] }));
  const hub = join(folder, 'hub');
  const filters: string[] = [];
  const close = undoAtEnd(() => {
    for (const one of started) void one.kill();
    namespaces.close();
    rmSync(folder, { recursive: true, force: true });
  });
  try {
    launch('vde_switch', '-s', hub);
    await appears(join(hub, 'ctl'));
    for (const [i, name] of namespaces.names.slice(0, nodes).entries()) {
      // node's tap = its switch = filter = the switch of all
      const own = join(folder, `switch${i}`);
      launch('vde_switch', '-s', own);
      await appears(join(own, 'ctl'));
      launch('ip', 'netns', 'exec', name, 'vde_plug2tap', '-s', own, 'peers');
      await appears(`/proc/${started.at(-1)!.pid}/task`);
      filters.push(join(folder, `filter${i}`));
      launch('wirefilter', '-v', `${own}:${hub}`, '-M', filters[i]!);
      await appears(filters[i]!);
      await retry(() =>
        run('ip', ['-n', name, '-batch', '-'], `addr add ${SUBNET}.${i + 1}/24 dev peers\nlink set peers up\n`),
      );
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    ...namespaces,
    nodes: namespaces.nodes.map((host, i) => ({ ...host, peerAddress: `${SUBNET}.${i + 1}` })),
    async degrade(lossPercent, delayMs) {
      // What goes from node to node passes two filters.
      const loss = 100 * (1 - Math.sqrt(1 - lossPercent / 100));
      for (const filter of filters) await tell(filter, [`loss ${loss.toFixed(3)}`, `delay ${delayMs / 2}`]);
    },
    close,
  };
}

async function appears(path: string): Promise<void> {
  for (let i = 0; !existsSync(path); i += 1) {
    if (i === 100) throw new Error(`${path} does not appear`);
    await sleep(20);
  }
}

async function retry(action: () => void): Promise<void> {
  for (let i = 0; ; i += 1) {
    try {
      return action();
    } catch (error) {
      if (i === 50) throw error;
      await sleep(20);
    }
  }
}

/** Gives commands to a wirefilter, over the unix socket that it is managed by. */
async function tell(path: string, commands: readonly string[]): Promise<void> {
  const socket = connect(path);
  socket.setEncoding('utf8');
  const prompt = async (): Promise<string> => {
    let text = '';
    while (!text.includes('VDEwf$ ')) text += ((await once(socket, 'data')) as [string])[0];
    return text;
  };
  await prompt();
  for (const command of commands) {
    socket.write(`${command}\n`);
    const answer = await prompt();
    if (!answer.includes('1000 Success')) throw new Error(`wirefilter, ${command}: ${answer}`);
  }
  socket.destroy();
}

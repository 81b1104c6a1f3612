import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Network } from './network.js';
import { start, type Started } from './processes.js';

export const PORT = 8080;
export const PEER_PORT = 9080;
/** Joining takes a second or two; on a busy machine several. */
const READY_WITHIN_MS = 30_000;

/** A line that a node logged. */
export interface LogLine {
  readonly index: number;
  readonly msg: string;
}

/** A node as a process. One that is started again is another. */
export interface NodeProcess {
  readonly index: number;
  /** Its id on the ring. */
  readonly id: string;
  readonly url: string;
  readonly pid: number;
  /** Rejects when it ends first, or takes too long. */
  readonly ready: Promise<void>;
  readonly exited: Started['exited'];
}

export interface Cluster {
  start(index: number): NodeProcess;
  /** The latest process of each index. */
  readonly nodes: readonly NodeProcess[];
  /** Of all processes, in the order in which it came. */
  readonly log: readonly LogLine[];
  close(): Promise<void>;
}

export interface ClusterOptions {
  readonly network: Network;
  /** Folder with `cli.js`. */
  readonly dist: string;
  /** Settings of every node, as flags. */
  readonly settings: readonly string[];
  readonly env: (index: number) => NodeJS.ProcessEnv;
  /** Where the logs go. */
  readonly folder: string;
}

export function createCluster({ network, dist, settings, env, folder }: ClusterOptions): Cluster {
  const nodes: NodeProcess[] = [];
  const log: LogLine[] = [];
  const started = new Set<Started>();
  const idOf = (index: number): string => `${network.nodes[index]!.peerAddress}:${PEER_PORT}`;
  // The first three are enough to find the others by.
  const peers = network.nodes.slice(0, 3).map((_, i) => idOf(i));
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('TOKENRING_'));

  return {
    nodes,
    log,
    start(index) {
      const { address, peerAddress, prefix } = network.nodes[index]!;
      const flags = {
        host: address,
        port: PORT,
        'peer-host': peerAddress,
        'peer-port': PEER_PORT,
        peers: peers.join(),
      };
      const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
      const one = start([...prefix, process.execPath, join(dist, 'cli.js'), 'serve', ...args, ...settings], {
        // What one run has kept of policies is nothing to the next.
        env: { ...Object.fromEntries(own), TOKENRING_POLICIES: 'none', ...env(index) },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      started.add(one);
      void one.exited.then(() => started.delete(one));
      const file = createWriteStream(join(folder, `node${index}.log`), { flags: 'a' });
      const ready = new Promise<void>((resolve, reject) => {
        const failed = (why: string): void => reject(new Error(`node ${index} ${why}; its log is in ${folder}`));
        const timer = setTimeout(() => failed(`is not ready in ${READY_WITHIN_MS} ms`), READY_WITHIN_MS);
        createInterface(one.child.stdout!).on('line', (text) => {
          file.write(`${text}\n`);
          const { msg } = JSON.parse(text) as { msg: string };
          log.push({ index, msg });
          if (msg === 'tokenring ready') resolve();
        });
        void one.exited.then((code) => failed(`ended with ${code} before it was ready`));
        void one.exited.finally(() => clearTimeout(timer));
        one.child.stdout!.on('close', () => file.end());
      });
      // A caller that does not wait for it must not crash this program.
      ready.catch(() => undefined);
      const { pid, exited } = one;
      return (nodes[index] = { index, id: idOf(index), url: `http://${address}:${PORT}`, pid, ready, exited });
    },
    async close() {
      await Promise.all([...started].map((one) => one.kill()));
    },
  };
}

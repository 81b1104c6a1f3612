import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { freePorts } from './ports.js';

export interface TestRing {
  readonly urls: readonly string[];
  readonly nodes: readonly RunningNode[];
  /** One more node, or one that was stopped, comes. */
  start(index: number): Promise<void>;
  /** As SIGTERM does it. */
  stop(index: number): Promise<void>;
  close(): Promise<void>;
}

/** Nodes of one ring in this process, reached where they say; `room` for more of them. */
export async function startTestRing(count: number, flags: readonly string[] = [], room = 0): Promise<TestRing> {
  const ports = await freePorts(2 * (count + room));
  const peers = ports.filter((_, i) => i % 2 === 1).map((port) => `127.0.0.1:${port}`);
  const running = new Map<number, RunningNode>();
  const start = async (index: number): Promise<void> => {
    const [port, peerPort] = ports.slice(2 * index);
    const own = ['--port', `${port!}`, '--peer-port', `${peerPort!}`, '--peers', peers.slice(0, count).join(',')];
    const quiet = ['--policies', 'none', '--log-level', 'silent', '--audit-log', '/dev/null'];
    running.set(index, await startNode(readSettings([...quiet, ...own, ...flags], {})));
  };
  const stop = async (index: number): Promise<void> => {
    const node = running.get(index);
    running.delete(index);
    await node?.stop();
  };
  await Promise.all(Array.from({ length: count }, (_, i) => start(i)));
  return {
    urls: ports.filter((_, i) => i % 2 === 0).map((port) => `http://127.0.0.1:${port}`),
    get nodes() {
      return [...running.values()];
    },
    start,
    stop,
    async close() {
      await Promise.all([...running.keys()].map(stop));
    },
  };
}

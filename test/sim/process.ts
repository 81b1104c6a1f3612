import type { ClusterNode } from '../../src/node/node.js';
import type { SimNode } from './world.js';

/** One life of a node. */
export interface Process extends SimNode {
  cluster: ClusterNode;
  state: SimNode['state'];
  /** What waits for it to go on: what callers sent to its sockets, what other nodes did, and its timers. */
  asked: (() => void)[];
  arrived: (() => void)[];
  due: (() => void)[];
  /** Breaks a connection over which an answer of this process is waited for. */
  readonly connections: Set<() => void>;
  frozenAtMs: number;
  /** Time spent frozen that its clock does not know of. */
  pausedMs: number;
  readonly clockStops: boolean;
}

export function createProcess(id: string, clockStops: boolean): Process {
  return {
    id,
    // Given by the world right after, as the node needs the process to run in.
    cluster: undefined as unknown as ClusterNode,
    state: 'running',
    asked: [],
    arrived: [],
    due: [],
    connections: new Set(),
    frozenAtMs: 0,
    pausedMs: 0,
    clockStops,
  };
}

/** Runs in the process when it can: now, when it goes on, or never. */
export function runIn(process: Process, waiting: 'asked' | 'arrived' | 'due', action: () => void): void {
  if (process.state === 'running') action();
  else if (process.state === 'frozen') process[waiting].push(action);
}

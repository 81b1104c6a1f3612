import { createClusterNode } from '../../src/cluster/node.js';
import type { ClusterNode, ClusterNodeOptions } from '../../src/cluster/node.js';
import type { Envelope, PeerAnswer, PeerMessage } from '../../src/cluster/messages.js';
import type { Clock, PeerResult, PeerTransport, Timers } from '../../src/cluster/ports.js';
import { createEventQueue } from './event-queue.js';
import { createRandom } from './random.js';
import type { Random } from './random.js';

/** How the network treats one message, one way: `undefined` loses it. */
export type Link = (from: string, to: string, random: Random) => number | undefined;

const DEFAULT_OPTIONS: Omit<ClusterNodeOptions, 'self'> = {
  version: 'sim',
  maxClients: 100_000,
  replicas: 1,
  replicationIntervalMs: 50,
  suspectAfterMs: 1_000,
  onUnavailable: 'local',
};

export interface SimNode {
  readonly id: string;
  readonly cluster: ClusterNode;
  /** Each life of an id is another process. */
  readonly state: 'running' | 'frozen' | 'dead';
}

export interface World {
  readonly random: Random;
  /** Virtual ms since the beginning. */
  readonly nowMs: number;
  /** What nodes logged, with the time and the node. */
  readonly log: readonly string[];
  /** Starts a process; `clockOffsetMs` and `clockRate` make its clock another than the world's. */
  spawn(id: string, options?: SpawnOptions): SimNode;
  node(id: string): SimNode;
  /** Ends a process at once: its memory is lost, connections to it are refused. */
  kill(id: string): void;
  /** Stops a process: nothing in it runs, what reaches it waits. */
  freeze(id: string): void;
  /** Lets a frozen process go on: first with what waited in its sockets, then with its timers. */
  thaw(id: string): void;
  /** Replaces the network. */
  setLink(link: Link): void;
  /** Runs all that happens in the next `ms`. */
  run(ms: number): Promise<void>;
  /** Runs until the promise settles, for at most `ms`. */
  until<T>(promise: Promise<T>, ms: number): Promise<T>;
  /** Calls `action` at a time from now. */
  after(ms: number, action: () => void): void;
}

export interface SpawnOptions extends Partial<Omit<ClusterNodeOptions, 'self'>> {
  readonly seeds?: readonly string[];
  readonly clockOffsetMs?: number;
  readonly clockRate?: number;
}

interface Process extends SimNode {
  cluster: ClusterNode;
  state: 'running' | 'frozen' | 'dead';
  /** What waits for it to go on: what reached its sockets, then its timers. */
  arrived: (() => void)[];
  due: (() => void)[];
}

/** A cluster in one process and virtual time: the program's own cluster code over a clock, timers and a network that one seed decides. */
export function createWorld(seed: number): World {
  const random = createRandom(seed);
  const queue = createEventQueue();
  const processes = new Map<string, Process>();
  const log: string[] = [];
  let link: Link = () => 1;

  /** Runs in the process when it can: now, when it goes on, or never. */
  function runIn(process: Process, waiting: 'arrived' | 'due', action: () => void): void {
    if (process.state === 'running') action();
    else if (process.state === 'frozen') process[waiting].push(action);
  }

  function transportOf(process: Process): PeerTransport {
    const send = (to: string, message: Envelope<PeerMessage>, timeoutMs: number): Promise<PeerResult> =>
      new Promise((resolve) => {
        const settle = (result: PeerResult): void => runIn(process, 'arrived', () => resolve(result));
        queue.add(timeoutMs, () => runIn(process, 'due', () => resolve({ kind: 'timeout' })));
        const sent = wire(message);
        const delayMs = link(process.id, to, random);
        if (delayMs === undefined) return;
        queue.add(delayMs, () => {
          const receiver = processes.get(to);
          const answer = (result: PeerResult): void => {
            const backMs = link(to, process.id, random);
            if (backMs !== undefined) queue.add(backMs, () => settle(result));
          };
          if (receiver === undefined || receiver.state === 'dead') return answer({ kind: 'refused' });
          runIn(receiver, 'arrived', () => {
            void receiver.cluster.receive(sent).then((envelope: Envelope<PeerAnswer>) => {
              if (receiver.state === 'dead') return;
              answer({ kind: 'answer', answer: wire(envelope) });
            });
          });
        });
      });
    return { send };
  }

  function timersOf(process: Process): Timers {
    return {
      every(intervalMs, tick) {
        let stopped = false;
        const again = (): void => {
          queue.add(intervalMs, () => {
            if (stopped || process.state === 'dead') return;
            runIn(process, 'due', () => {
              if (stopped) return;
              tick();
              again();
            });
          });
        };
        again();
        return () => (stopped = true);
      },
      sleep: (delayMs) => new Promise((resolve) => queue.add(delayMs, () => runIn(process, 'due', resolve))),
    };
  }

  const get = (id: string): Process => {
    const process = processes.get(id);
    if (process === undefined) throw new Error(`no process ${id}`);
    return process;
  };

  const world: World = {
    random,
    log,
    get nowMs() {
      return queue.nowMs;
    },
    spawn(id, { seeds = [], clockOffsetMs = 0, clockRate = 1, ...options } = {}) {
      const clock: Clock = { nowMs: () => Math.floor(clockOffsetMs + queue.nowMs * clockRate) };
      const process = { id, state: 'running', arrived: [], due: [] } as unknown as Process;
      const note = (fields: object, message: string): void => {
        log.push(`${Math.round(queue.nowMs)} ${id}: ${message} ${JSON.stringify(fields)}`);
      };
      process.cluster = createClusterNode(
        {
          clock,
          timers: timersOf(process),
          transport: transportOf(process),
          discovery: { seeds: () => Promise.resolve(seeds) },
          log: { info: note, warn: note },
        },
        { ...DEFAULT_OPTIONS, ...options, self: id },
      );
      processes.set(id, process);
      return process;
    },
    node: get,
    kill(id) {
      const process = get(id);
      process.state = 'dead';
      process.arrived = [];
      process.due = [];
    },
    freeze: (id) => (get(id).state = 'frozen'),
    thaw(id) {
      const process = get(id);
      process.state = 'running';
      // Each of what waited is an event of its own, so that what it starts comes to an end before the next.
      for (const action of [...process.arrived.splice(0), ...process.due.splice(0)])
        queue.add(0, () => runIn(process, 'due', action));
    },
    setLink: (next) => (link = next),
    after: (ms, action) => queue.add(ms, action),
    async run(ms) {
      await queue.runUntil(queue.nowMs + ms);
    },
    async until(promise, ms) {
      const endMs = queue.nowMs + ms;
      let settled = false;
      void promise.then(
        () => (settled = true),
        () => (settled = true),
      );
      while (!settled && queue.nowMs < endMs) await queue.runUntil(queue.nowMs + 1);
      if (!settled) throw new Error(`not settled within ${ms} ms`);
      return promise;
    },
  };
  return world;
}

/** Messages are values: nothing is shared between two processes. */
function wire<T>(value: T): T {
  return structuredClone(value);
}

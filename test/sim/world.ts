import { ClusterNode, type ClusterNodeDeps, type ClusterNodeOptions } from '../../src/node/node.js';
import type { Store } from '../../src/store/store.js';
import { createSimEtcd, type SimEtcd } from './etcd.js';
import { createEventQueue } from './event-queue.js';
import { connectionsOf, type Link, type Network, type Tamper } from './network.js';
import { createProcess, runIn, type Process } from './process.js';
import { createRandom, type Random } from './random.js';
import { clockOf, timersOf } from './time.js';

export type { Link } from './network.js';

const DEFAULT_OPTIONS: Omit<ClusterNodeOptions, 'self'> = {
  version: 'sim',
  // As much as the simulation needs: room for it is made when a node starts.
  maxClients: 256,
  replicas: 1,
  replicationIntervalMs: 50,
  suspectAfterMs: 1_000,
  onUnavailable: 'local',
  // Requests are few here.
  leaseAfter: 3,
};

export interface SimNode {
  readonly id: string;
  readonly cluster: ClusterNode;
  /** Each life of an id is another process. `gone`: its whole machine is, and does not even refuse. */
  readonly state: 'running' | 'frozen' | 'dead' | 'gone';
}

/** Constructs a node, or a mutant of it. */
export type CreateNode = (deps: ClusterNodeDeps, options: ClusterNodeOptions) => ClusterNode;

export const newNode: CreateNode = (deps, options) => new ClusterNode(deps, options);

export interface World {
  readonly random: Random;
  /** Virtual ms since the beginning. */
  readonly nowMs: number;
  /** Events run so far. */
  readonly events: number;
  /** What happened, with the time: kept only when asked for. */
  readonly log: readonly string[];
  readonly note: ((line: string) => void) | undefined;
  /** Where members are written down, if this world has such a place. */
  readonly etcd: SimEtcd | undefined;
  /** Starts a process; `clockOffsetMs` and `clockRate` make its clock another than the world's. */
  spawn(id: string, options?: SpawnOptions): SimNode;
  node(id: string): SimNode;
  find(id: string): SimNode | undefined;
  /**
   * Ends a process at once: its memory is lost, its connections break and new ones are refused; `silently`, with its
   * machine: nobody is told.
   */
  kill(id: string, silently?: boolean): void;
  /** Ends a process that no message reaches. */
  end(node: SimNode): void;
  /** Stops a process: nothing in it runs, what reaches it waits. */
  freeze(id: string): void;
  /** Lets a frozen process go on: first with what waited in its sockets, of callers first, then with its timers, or the other way round. */
  thaw(id: string, timersFirst?: boolean): void;
  /** Runs an action in a process when it can: now, when it goes on, or never. */
  deliver(id: string, action: (node: SimNode) => void): void;
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
  /** Asked again and again, like a name server. */
  readonly seeds?: readonly string[] | (() => readonly string[]);
  readonly clockOffsetMs?: number;
  readonly clockRate?: number;
  readonly store?: Store;
  /** What is sent to its id goes to another process. */
  readonly unreachable?: boolean;
}

/** What a world may be given instead of the real thing: only tests of the simulator itself do. */
export interface WorldOptions {
  /** Keep a log of what happened. */
  readonly log?: boolean;
  /** Makes a node: the program's own, or one with a fault in it. */
  readonly createNode?: CreateNode;
  /** Spoils messages. */
  readonly tamper?: Tamper;
  /** Each message goes through the bytes that the program would send. */
  readonly bytes?: boolean;
  /** A process that was frozen finds its clock where it left it. */
  readonly clockStopsInFreeze?: boolean;
  /** Members are written down in an etcd, whose clock for leases has this rate. */
  readonly etcdRate?: number;
}

/** A cluster in one process and virtual time: the program's own cluster code over a clock, timers and a network that one seed decides. */
export function createWorld(seed: number, options: WorldOptions = {}): World {
  const random = createRandom(seed);
  const queue = createEventQueue();
  const processes = new Map<string, Process>();
  const log: string[] = [];
  let link: Link = () => 1;
  const note =
    options.log === true ? (line: string): void => void log.push(`${queue.nowMs.toFixed(1)} ${line}`) : undefined;
  const etcd = options.etcdRate === undefined ? undefined : createSimEtcd(queue, options.etcdRate);
  const network: Network = {
    queue,
    processes,
    bytes: options.bytes === true,
    pass: (from, to) => link(from, to, random),
    tamper: options.tamper,
    note,
  };
  const get = (id: string): Process => {
    const process = processes.get(id);
    if (process === undefined) throw new Error(`no process ${id}`);
    return process;
  };

  return {
    random,
    log,
    note,
    etcd,
    get nowMs() {
      return queue.nowMs;
    },
    get events() {
      return queue.ran;
    },
    spawn(id, { seeds = [], clockOffsetMs = 0, clockRate = 1, store, unreachable, ...nodeOptions } = {}) {
      const process = createProcess(id, options.clockStopsInFreeze === true);
      const noteOf = (fields: object, message: string): void => note?.(`${id}: ${message} ${JSON.stringify(fields)}`);
      process.cluster = (options.createNode ?? newNode)(
        {
          clock: clockOf(process, queue, { offsetMs: clockOffsetMs, rate: clockRate }),
          timers: timersOf(process, queue, clockRate),
          transport: connectionsOf(process, network),
          discovery: { seeds: () => Promise.resolve(typeof seeds === 'function' ? seeds() : seeds) },
          registry: etcd?.registryOf(process, network),
          log: { info: noteOf, warn: noteOf },
          store,
        },
        { ...DEFAULT_OPTIONS, ...nodeOptions, self: id },
      );
      if (unreachable !== true) processes.set(id, process);
      return process;
    },
    node: get,
    find: (id) => processes.get(id),
    kill(id, silently = false) {
      const process = get(id);
      process.state = silently ? 'gone' : 'dead';
      process.asked = [];
      process.arrived = [];
      process.due = [];
      for (const breakOff of process.connections) breakOff();
      process.connections.clear();
    },
    end(node) {
      node.cluster.close();
      (node as Process).state = 'dead';
    },
    freeze(id) {
      const process = get(id);
      process.state = 'frozen';
      process.frozenAtMs = queue.nowMs;
    },
    thaw(id, timersFirst = false) {
      const process = get(id);
      if (process.state !== 'frozen') return;
      process.state = 'running';
      process.pausedMs += queue.nowMs - process.frozenAtMs;
      const asked = process.asked.splice(0);
      const arrived = process.arrived.splice(0);
      const due = process.due.splice(0);
      // Each of what waited is an event of its own, so that what it starts comes to an end before the next.
      for (const action of timersFirst ? [...due, ...arrived, ...asked] : [...asked, ...arrived, ...due])
        queue.add(0, () => runIn(process, 'due', action));
    },
    deliver(id, action) {
      const process = get(id);
      runIn(process, 'asked', () => action(process));
    },
    setLink: (next) => (link = next),
    after: (ms, action) => queue.add(ms, action),
    async run(ms) {
      await queue.runUntil(queue.nowMs + ms);
    },
    async until(promise, ms) {
      const endMs = queue.nowMs + ms;
      const state = { settled: false };
      void promise.then(
        () => (state.settled = true),
        () => (state.settled = true),
      );
      while (!state.settled && queue.nowMs < endMs) await queue.runUntil(queue.nowMs + 1);
      if (!state.settled) throw new Error(`not settled within ${ms} ms`);
      return promise;
    },
  };
}

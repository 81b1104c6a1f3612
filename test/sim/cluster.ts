import type { GroupLeave } from '../../src/node/leaver.js';
import { hostOf, type NodeId } from '../../src/limits/ring/ring.js';
import { codeOf } from './code-of.js';
import type { Duplicate, Fault } from './history.js';
import type { Scenario, Step, StepOf } from './scenario.js';
import type { Weather } from './weather.js';
import type { SimNode, SpawnOptions, World } from './world.js';

/** Until all have found each other, at the beginning. */
const UP_WITHIN_MS = 20_000;
/** In which what was begun must come to an end. */
const CALM_WITHIN_MS = 60_000;
/** For which a node that has left goes on with what is still under way. */
const DRAIN_MS = 500;
/** For which a second process of the same id goes on, if nothing stops it. */
const DUPLICATE_MS = 1_000;

/** The operators, and all that goes wrong: does the steps of a scenario, and writes down what really happened. */
export interface Cluster {
  /** Starts the first nodes. @returns when all have joined */
  up(): Promise<number>;
  take(step: Step): void;
  /** Waits until all that was begun has ended. @returns when the last of it did */
  calm(): Promise<number>;
  /** The node of this number, or the next that is ready, as a load balancer would find it. */
  listening(node: number): NodeId | undefined;
}

export function createCluster(
  scenario: Scenario,
  world: World,
  weather: Weather,
  { faults, duplicates }: { faults: Fault[]; duplicates: Duplicate[] },
  { memberTtlMs, begin: beginNode }: { memberTtlMs: number; begin: (node: SimNode) => void },
): Cluster {
  const ids = scenario.nodes.map(({ id }) => id);
  /** Joined, and neither leaving nor known to be down: those that are sent requests. */
  const ready = new Set<NodeId>();
  let underWay = 0;
  let calmMs = 0;

  const stateOf = (id: NodeId): string => world.find(id)?.state ?? 'dead';
  const running = (id: NodeId): boolean => stateOf(id) === 'running' && ready.has(id);
  /** At least one must go on deciding. */
  const spare = (id: NodeId): boolean => running(id) && ready.size > 1;
  const wait = (ms: number): Promise<void> => new Promise((resolve) => world.after(ms, resolve));
  const span = (forMs: number): { fromMs: number; toMs: number } => ({
    fromMs: world.nowMs,
    toMs: world.nowMs + forMs,
  });

  /** @returns what is to be called at the end of it */
  function begin(): () => void {
    underWay += 1;
    return () => {
      underWay -= 1;
      calmMs = Math.max(calmMs, world.nowMs);
    };
  }

  const lasts = (forMs: number): void => world.after(forMs, begin());

  /** All addresses there may be, or one where somebody listens. */
  function seedsOf(id: NodeId): readonly NodeId[] {
    if (scenario.discovery === 'all') return ids;
    const up = ids.filter((other) => other !== id && ['running', 'frozen'].includes(stateOf(other)));
    return up.length === 0 ? [] : [world.random.pick(up)];
  }

  function optionsOf(id: NodeId): SpawnOptions {
    const { clockOffsetMs, clockRate } = scenario.nodes.find((node) => node.id === id)!;
    const { replicas, replicationIntervalMs, suspectAfterMs, neighbours, maxQueued, strict = false } = scenario;
    return {
      seeds: () => seedsOf(id),
      clockOffsetMs,
      clockRate,
      replicas,
      replicationIntervalMs,
      suspectAfterMs,
      neighbours,
      maxQueued,
      memberTtlMs,
      strict,
      onUnavailable: strict ? 'closed' : 'local',
    };
  }

  async function start(id: NodeId): Promise<void> {
    world.note?.(`start ${id}`);
    const node = world.spawn(id, optionsOf(id));
    beginNode(node);
    await node.cluster.start();
    if (world.find(id) === node) ready.add(id);
  }

  async function join(id: NodeId): Promise<void> {
    const end = begin();
    const fromMs = world.nowMs;
    await start(id);
    faults.push({ kind: 'join', node: id, fromMs, toMs: world.nowMs });
    end();
  }

  function stop(id: NodeId, silently: boolean): void {
    world.note?.(`crash ${id}${silently ? ' with its machine' : ''}`);
    world.kill(id, silently);
    ready.delete(id);
  }

  /** Not ready, handed over, left, drained, and gone. */
  async function leave(id: NodeId, group?: GroupLeave): Promise<void> {
    const end = begin();
    const fromMs = world.nowMs;
    const node = world.node(id);
    ready.delete(id);
    world.note?.(`${id} is to leave`);
    await node.cluster.leave(group);
    await wait(DRAIN_MS);
    while (stateOf(id) === 'frozen') await wait(DRAIN_MS);
    if (world.find(id) === node && stateOf(id) === 'running') {
      node.cluster.close();
      // What still waited is decided now.
      await wait(0);
      stop(id, false);
      faults.push({ kind: 'leave', node: id, fromMs, toMs: world.nowMs });
    }
    end();
  }

  async function restart(id: NodeId, backAfterMs: number | undefined): Promise<void> {
    const end = begin();
    await leave(id);
    if (backAfterMs !== undefined) {
      await wait(backAfterMs);
      if (stateOf(id) === 'dead') await join(id);
    }
    end();
  }

  /** It ends when it has been refused, as the program does; or after a while. */
  async function startAgain(id: NodeId): Promise<void> {
    const end = begin();
    world.note?.(`start another ${id}`);
    const duplicate: Duplicate = { node: id, atMs: world.nowMs, refused: false };
    duplicates.push(duplicate);
    const second = world.spawn(id, { ...optionsOf(id), checksId: true, unreachable: true });
    const starting = second.cluster.start().catch((error: unknown) => {
      duplicate.refused = codeOf(error) === 'duplicate_id';
    });
    await Promise.race([starting, wait(DUPLICATE_MS)]);
    world.end(second);
    end();
  }

  async function restartAll(): Promise<void> {
    const end = begin();
    for (const id of ids.filter(running)) if (spare(id)) await restart(id, 0);
    end();
  }

  async function crash({ node, silent, backAfterMs }: StepOf<'crash'>): Promise<void> {
    const end = begin();
    stop(node, silent);
    faults.push({ kind: 'crash', node, silent, ...span(0) });
    if (backAfterMs !== undefined) {
      await wait(backAfterMs);
      await join(node);
    }
    end();
  }

  /** Those of a host that run, if they can be spared. */
  function machine(host: string): readonly NodeId[] {
    const here = ids.filter((id) => hostOf(id) === host && running(id));
    return here.length < ready.size ? here : [];
  }

  async function crashMachine({ host, backAfterMs }: StepOf<'machine-crash'>): Promise<void> {
    const end = begin();
    const here = machine(host);
    for (const id of here) stop(id, true);
    // Where others of its nodes live on, what was copied to them may be what they were the only ones to have.
    const whole = ids.every((id) => hostOf(id) !== host || here.includes(id) || world.find(id) === undefined);
    for (const node of here)
      faults.push({ kind: 'crash', node, silent: true, ...(whole ? { machine: host } : {}), ...span(0) });
    if (backAfterMs !== undefined) {
      await wait(backAfterMs);
      await Promise.all(here.map(join));
    }
    end();
  }

  /** As the supervisor of a group of workers does it. */
  async function leaveMachine({ host, backAfterMs }: StepOf<'machine-leave'>): Promise<void> {
    const end = begin();
    const here = machine(host);
    const ended = new Set<NodeId>();
    const rounds = new Map(here.map((id) => [id, 0]));
    const meet = async (id: NodeId): Promise<readonly NodeId[]> => {
      const round = rounds.get(id)! + 1;
      rounds.set(id, round);
      const met = (other: NodeId): boolean => rounds.get(other)! >= round;
      const awaited = (other: NodeId): boolean =>
        !met(other) && !ended.has(other) && ['running', 'frozen'].includes(stateOf(other));
      while (here.some(awaited)) await wait(5);
      return here.filter(met);
    };
    await Promise.all(
      here.map(async (id) => {
        await leave(id, { ids: here, barrier: () => meet(id) });
        ended.add(id);
      }),
    );
    if (backAfterMs !== undefined) {
      await wait(backAfterMs);
      await Promise.all(here.filter((id) => stateOf(id) === 'dead').map(join));
    }
    end();
  }

  async function freeze(id: NodeId, forMs: number, timersFirst: boolean): Promise<void> {
    const end = begin();
    world.note?.(`freeze ${id}`);
    world.freeze(id);
    faults.push({ kind: 'freeze', node: id, ...span(forMs) });
    await wait(forMs);
    world.note?.(`thaw ${id}`);
    world.thaw(id, timersFirst);
    end();
  }

  async function pause({ node, forMs, everyMs, times }: StepOf<'pauses'>): Promise<void> {
    const end = begin();
    for (let i = 0; i < times && running(node); i += 1) {
      await freeze(node, forMs, i % 2 === 1);
      await wait(everyMs - forMs);
    }
    end();
  }

  return {
    async up() {
      const first = scenario.nodes.filter((node) => node.startMs !== undefined);
      const starts = first.map(async ({ id, startMs = 0 }) => {
        if (startMs > 0) await wait(startMs);
        await start(id);
      });
      const up = { yet: false };
      void Promise.all(starts).then(() => (up.yet = true));
      while (!up.yet && world.nowMs < UP_WITHIN_MS) await world.run(10);
      await world.run(scenario.suspectAfterMs * 0.3);
      return world.nowMs;
    },
    take(step) {
      switch (step.kind) {
        case 'crash':
          return spare(step.node) ? void crash(step) : undefined;
        case 'machine-crash':
          return void crashMachine(step);
        case 'machine-leave':
          return void leaveMachine(step);
        case 'freeze':
          return stateOf(step.node) === 'running' ? void freeze(step.node, step.forMs, step.timersFirst) : undefined;
        case 'pauses':
          return void pause(step);
        case 'duplicate':
          return running(step.node) ? void startAgain(step.node) : undefined;
        case 'partition':
          world.note?.(`partition ${JSON.stringify(step.sides)}`);
          for (const a of step.sides) for (const b of step.sides) if (a !== b) weather.cut(a, b, step.forMs);
          faults.push({ kind: 'partition', sides: step.sides, ...span(step.forMs) });
          return lasts(step.forMs);
        case 'one-way':
          world.note?.(`cut ${step.from.join()} -> ${step.to.join()}`);
          weather.cut(step.from, step.to, step.forMs);
          faults.push({ kind: 'one-way', from: step.from, to: step.to, ...span(step.forMs) });
          return lasts(step.forMs);
        case 'lossy':
          world.note?.('the network loses packets');
          weather.lose(step.lost, step.broken, step.forMs);
          faults.push({ kind: 'lossy', broken: step.broken > 0, ...span(step.forMs) });
          return lasts(step.forMs);
        case 'join':
          return world.find(step.node) === undefined ? void join(step.node) : undefined;
        case 'leave':
          return spare(step.node) ? void restart(step.node, step.backAfterMs) : undefined;
        case 'rolling-restart':
          return void restartAll();
      }
    },
    async calm() {
      for (let waitedMs = 0; underWay > 0 && waitedMs < CALM_WITHIN_MS; waitedMs += 50) await world.run(50);
      return calmMs;
    },
    listening: (node) =>
      ids
        .map((_, i) => ids[(node + i) % ids.length]!)
        .find((id) => ready.has(id) && ['running', 'frozen'].includes(stateOf(id))),
  };
}

import { hostOf, type NodeId } from '../../src/limits/ring/ring.js';
import { generatePolicies } from './policy-workload.js';
import { createRandom, type Random } from './random.js';
import { THEMES, type NodePlan, type Request, type Scenario, type Step, type Theme } from './scenario.js';
import { generateRequests } from './workload.js';

const WEIGHTS: Readonly<Record<Theme, number>> = {
  calm: 3,
  planned: 6,
  crash: 4,
  freeze: 4,
  partition: 3,
  'one-way': 2,
  lossy: 2,
  mixed: 3,
};

/** The whole run that a seed stands for. */
export function generateScenario(seed: number, only?: Theme): Scenario {
  const random = createRandom(seed);
  const drawn = drawTheme(random);
  const theme = only ?? drawn;
  const count = Math.min(random.between(3, 9), random.between(3, 9) + 1);
  const skewed = random.chance(0.3);
  const perMachine = drawMachines(seed);
  const nodes = Array.from({ length: count }, (_, i): NodePlan => ({
    id: `${String.fromCharCode(97 + Math.floor(i / perMachine))}:${1 + (i % perMachine)}`,
    clockOffsetMs: random.chance(0.5) ? 0 : random.between(0, 10 * 3_600_000),
    clockRate: skewed ? 1 + random.pick([-0.001, 0, 0.001]) : 1,
    slowMs: random.chance(0.1) ? random.between(5, 30) : 0,
    startMs: random.chance(0.5) ? 0 : random.between(0, 200),
  }));
  // So far apart that every question is sent twice; a ring that changes takes seconds then.
  const far = random.chance(0.2) && ['calm', 'crash', 'lossy'].includes(theme);
  const minMs = far ? 130 : random.pick([1, 1, 2, 5]);
  const maxMs = minMs + random.pick([0, 2, 5, 20]);
  const suspectAfterMs = far ? 1_000 : random.pick([600, 1_000]);
  const loadMs = random.between(1_500, 3_500);
  const ids = nodes.map(({ id }) => id);
  const { steps, joiners } = drawSteps(theme, random, ids, loadMs, suspectAfterMs);
  const started = nodes.filter(({ id }) => !joiners.has(id)).map(({ id }) => id);
  const { maxQueued, duplicate } = drawRare(seed, theme, steps, started, loadMs);
  const { policies, writes, requests } = generatePolicies(seed, loadMs, nodes, steps);
  return {
    seed,
    theme,
    replicas: count > 3 && random.chance(0.3) ? 2 : 1,
    replicationIntervalMs: random.pick([20, 50, 50, 100]),
    suspectAfterMs,
    neighbours: drawNeighbours(seed),
    maxQueued,
    nodes: nodes.map((node) => (joiners.has(node.id) ? { ...node, startMs: undefined } : node)),
    network: { minMs, maxMs },
    discovery: random.chance(0.75) ? 'all' : 'one',
    steps: [...steps, ...duplicate].sort((a, b) => a.atMs - b.atMs),
    requests: together(generateRequests(random, loadMs, createRandom(seed + 4_000_037)), requests),
    policies,
    writes,
    loadMs,
  };
}

/** Where there are more requests, half of the plain ones are enough. */
function together(plain: readonly Request[], more: readonly Request[]): readonly Request[] {
  if (more.length === 0) return plain;
  return [...plain.filter((_, i) => i % 2 === 0), ...more].sort((a, b) => a.atMs - b.atMs);
}

/** Nodes of one machine. From numbers of its own, so that most runs are what they would be if there were no machines. */
function drawMachines(seed: number): number {
  const random = createRandom(seed + 1_000_003);
  return random.chance(0.25) ? random.pick([2, 2, 3]) : 1;
}

/** Rare troubles, from numbers of their own as well. */
function drawRare(
  seed: number,
  theme: Theme,
  steps: readonly Step[],
  started: readonly NodeId[],
  loadMs: number,
): { maxQueued: number | undefined; duplicate: Step[] } {
  const random = createRandom(seed + 2_000_003);
  const maxQueued = random.chance(0.25) ? random.pick([1, 1, 2]) : undefined;
  // Of a node that nothing else happens to, and whose address is reached.
  const untouched = started.filter((id) => steps.every((step) => !concerns(step, id)));
  if (!random.chance(0.2) || untouched.length === 0 || theme === 'lossy' || theme === 'mixed')
    return { maxQueued, duplicate: [] };
  const atMs = random.between(200, Math.floor(loadMs * 0.8));
  return { maxQueued, duplicate: [{ kind: 'duplicate', atMs, node: random.pick(untouched) }] };
}

function concerns(step: Step, id: NodeId): boolean {
  if ('node' in step) return step.node === id;
  return 'host' in step ? step.host === hostOf(id) : step.kind === 'rolling-restart';
}

/** As many as in the program, which are all others here, or few as in a large cluster. */
function drawNeighbours(seed: number): number | undefined {
  return createRandom(seed + 3_000_017).chance(0.5) ? 2 : undefined;
}

function drawTheme(random: Random): Theme {
  let left = random.next() * Object.values(WEIGHTS).reduce((a, b) => a + b);
  for (const theme of THEMES) if ((left -= WEIGHTS[theme]) < 0) return theme;
  return 'calm';
}

interface Drawn {
  steps: Step[];
  joiners: Set<NodeId>;
}

function drawSteps(theme: Theme, random: Random, ids: NodeId[], loadMs: number, suspectMs: number): Drawn {
  const joiners = new Set<NodeId>();
  const hosts = [...new Set(ids.map(hostOf))];
  const shared = ids.length > hosts.length && hosts.length > 1;
  const at = (): number => random.between(200, Math.floor(loadMs * 0.6));
  const one: Readonly<Record<Exclude<Theme, 'calm' | 'mixed'>, () => Step>> = {
    planned: () => drawPlanned(random, ids, shared ? hosts : [], joiners, at()),
    crash: () => drawCrash(random, ids, shared ? hosts : [], at()),
    freeze: () => drawFreeze(random, ids, at(), suspectMs),

    partition: () => ({
      kind: 'partition',
      atMs: at(),
      sides: drawSides(random, ids),
      forMs: random.between(100, Math.floor(loadMs * 0.4)),
    }),
    'one-way': () => drawOneWay(random, ids, at(), random.between(100, Math.floor(loadMs * 0.4))),
    lossy: () => ({
      kind: 'lossy',
      atMs: at(),
      lost: random.pick([0.02, 0.1]),
      broken: random.pick([0, 0.01, 0.05]),
      forMs: random.between(500, Math.floor(loadMs * 0.4)),
    }),
  };
  if (theme === 'calm') return { steps: [], joiners };
  const kinds = Object.values(one);
  const count =
    theme === 'mixed' ? random.between(2, 4) : theme === 'planned' ? random.between(1, 3) : random.between(1, 2);
  const steps = Array.from({ length: count }, () => (theme === 'mixed' ? random.pick(kinds) : one[theme])());
  return { steps: steps.sort((a, b) => a.atMs - b.atMs), joiners };
}

function drawCrash(random: Random, ids: NodeId[], hosts: readonly string[], atMs: number): Step {
  const node = random.pick(ids);
  const silent = random.chance(0.3);
  const backAfterMs = random.chance(0.6) ? random.between(0, 2_500) : undefined;
  if (hosts.length === 0 || random.chance(0.4)) return { kind: 'crash', atMs, node, silent, backAfterMs };
  return { kind: 'machine-crash', atMs, host: random.pick(hosts), backAfterMs };
}

/** @param hosts those that may be stopped as a whole */
function drawPlanned(
  random: Random,
  ids: NodeId[],
  hosts: readonly string[],
  joiners: Set<NodeId>,
  atMs: number,
): Step {
  if (hosts.length > 0 && random.chance(0.4)) {
    const backAfterMs = random.chance(0.6) ? random.between(0, 1_000) : undefined;
    return { kind: 'machine-leave', atMs, host: random.pick(hosts), backAfterMs };
  }
  const chance = random.next();
  // At least two are there from the beginning.
  if (chance < 0.4 && joiners.size < ids.length - 2) {
    const node = random.pick(ids.filter((id) => !joiners.has(id)));
    joiners.add(node);
    return { kind: 'join', atMs, node };
  }
  if (chance < 0.85) {
    const backAfterMs = random.chance(0.6) ? random.between(0, 1_000) : undefined;
    return { kind: 'leave', atMs, node: random.pick(ids), backAfterMs };
  }
  return { kind: 'rolling-restart', atMs: 100 };
}

function drawFreeze(random: Random, ids: NodeId[], atMs: number, suspectMs: number): Step {
  const node = random.pick(ids);
  if (random.chance(0.2)) {
    const forMs = Math.floor(suspectMs * random.pick([0.05, 0.1, 0.15]));
    return {
      kind: 'pauses',
      atMs,
      node,
      forMs,
      everyMs: random.between(forMs + 5, 4 * forMs),
      times: random.between(2, 8),
    };
  }
  const forMs = Math.floor(suspectMs * random.pick([0.05, 0.2, 0.28, 0.31, 0.45, 0.6, 0.9, 1.1, 2]));
  return { kind: 'freeze', atMs, node, forMs, timersFirst: random.chance(0.5) };
}

function drawSides(random: Random, ids: NodeId[]): NodeId[][] {
  const count = random.chance(0.8) ? 2 : 3;
  const sides: NodeId[][] = Array.from({ length: count }, () => []);
  ids.forEach((id, i) => (i < count ? sides[i]! : random.pick(sides)).push(id));
  return sides;
}

function drawOneWay(random: Random, ids: NodeId[], atMs: number, forMs: number): Step {
  const node = random.pick(ids);
  const rest = ids.filter((id) => id !== node);
  const some = random.chance(0.5) ? rest : [random.pick(rest)];
  return random.chance(0.5)
    ? { kind: 'one-way', atMs, from: [node], to: some, forMs }
    : { kind: 'one-way', atMs, from: some, to: [node], forMs };
}

import { createRing } from '../../src/limits/ring/rings.js';
import { clientId } from '../load/clients.js';
import { askInTurns, CLIENTS, meetAllClients, type Questions } from './generator.js';
import { atLeast, count, type Bench, type Goal } from './goal.js';
import { hasProc, hasWrk, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { startNode, startWorkers, type ServerGroup, type ServerProcess } from './processes.js';
import { measureQuietly } from './quiet.js';

const WORKERS = 2;
const HOT_CLIENTS = 50;
/** As in `ring.ts`: short against a busy machine's swings, long against what is copied after the end of a turn. */
const TURN_MS = 500;
/** Until V8 has compiled the path of peers' messages. */
const WARM_UP_SECONDS = 15;

interface Workload extends Omit<Questions, 'server'> {
  readonly name: string;
  readonly what: string;
  readonly goal: number | undefined;
  /** Whether each client is asked about at the own port of the worker that owns it, as the SDK does. */
  readonly atOwner?: boolean;
}

const WORKLOADS: readonly Workload[] = [
  {
    name: 'workers-even',
    what: `${count(CLIENTS)} clients evenly, half of the decisions forwarded`,
    goal: 1.5,
    limit: 100,
    batch: 1,
  },
  {
    name: 'workers-owner',
    what: `${count(CLIENTS)} clients evenly, each asked about at its owner's own port, as the SDK does`,
    goal: undefined,
    limit: 100,
    batch: 1,
    atOwner: true,
  },
  {
    name: 'workers-hot',
    what: `${HOT_CLIENTS} hot clients under a generous limit, decided on leases`,
    goal: 1.8,
    limit: 10_000_000,
    batch: 1,
    clients: Array.from({ length: HOT_CLIENTS }, (_, i) => i),
  },
];

/**
 * What two workers on two cores can do, to what one node on one core can.
 *
 * The generator needs most of a core, so on two cores it cannot be left out of a throughput. So both sides are asked in
 * turns, and what they can do follows from the CPU time that they use for a decision, the supervisor's included: one core gives a
 * second of it in a second, two give two. The workers may not share the work evenly; the group can do no more than what keeps the
 * busiest of them at one core.
 */
export const workers: Bench = async ({ dist, quick, progress }) => {
  if (!hasProc) {
    const what = `${WORKERS} workers on ${WORKERS} cores to one node on one`;
    return [
      { name: 'workers', what, mustReach: '>= 1.5', measured: 'not measured: there is no /proc', reached: undefined },
    ];
  }
  const one = await startNode(SERVER_CORE, dist);
  const group = await startWorkers(dist, WORKERS);
  for (const server of [one, group]) await meetAllClients(server);
  const goals: Goal[] = [];
  for (const { name, what, goal, atOwner = false, ...questions } of WORKLOADS) {
    // autocannon asks for no list of clients.
    if (atOwner && !hasWrk) continue;
    const sides = sidesOf(one, group, questions, atOwner);
    progress(`workers: warm-up, ${what}`);
    await askInTurns(WARM_UP_SECONDS, sides, TURN_MS);
    const turns = await measureQuietly(quick ? 3 : 7, (turn) => {
      progress(`workers: turn ${turn + 1}, ${what}`);
      return compare(group, sides);
    });
    const ratios = turns.map(({ ratio }) => ratio);
    const micros = (side: 'oneMicros' | 'groupMicros') => median(turns.map((turn) => turn[side])).toFixed(1);
    goals.push({
      name,
      what: `${WORKERS} workers on ${WORKERS} cores to one node on one, by CPU, ${what}`,
      mustReach: goal === undefined ? '' : `>= ${goal}`,
      measured: `${spread(ratios, (ratio) => ratio.toFixed(2))}; ${micros('groupMicros')} µs to ${micros('oneMicros')} µs a decision`,
      reached: goal === undefined ? undefined : atLeast(goal, median(ratios)),
    });
  }
  await Promise.all([one.stop(), group.stop()]);
  return goals;
};

/** The node, and then the group: at its shared port, or at the own port of each worker. */
function sidesOf(
  one: ServerProcess,
  group: ServerGroup,
  questions: Omit<Questions, 'server'>,
  atOwner: boolean,
): readonly Questions[] {
  if (!atOwner) return [one, group].map((server) => ({ server, ...questions }));
  const ring = createRing(group.workers.map(({ id }) => id));
  const owned = new Map<string, number[]>(group.workers.map(({ id }) => [id, []]));
  for (let i = 0; i < CLIENTS; i += 1) owned.get(ring.owner(clientId(i))!)!.push(i);
  const atWorkers = group.workers.map(({ id, port }) => ({
    ...questions,
    server: { ...group, port },
    clients: owned.get(id)!,
  }));
  return [{ server: one, ...questions }, ...atWorkers];
}

async function compare(
  group: ServerGroup,
  sides: readonly Questions[],
): Promise<{ ratio: number; oneMicros: number; groupMicros: number }> {
  const before = group.workerCpuSeconds();
  const [alone, ...together] = await askInTurns(2, sides, TURN_MS);
  const used = group.workerCpuSeconds().map((seconds, i) => seconds - before[i]!);
  const busiest = Math.max(...used) / used.reduce((sum, seconds) => sum + seconds, 0);
  const { cpuMicros: oneMicros } = alone!;
  // Each side of the group is charged with the CPU time of all of it.
  const groupMicros = 1 / together.reduce((sum, { cpuMicros }) => sum + 1 / cpuMicros, 0);
  return { ratio: (oneMicros / groupMicros) * Math.min(WORKERS, 1 / busiest), oneMicros, groupMicros };
}

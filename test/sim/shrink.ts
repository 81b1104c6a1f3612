import type { NodeId } from '../../src/limits/ring/ring.js';
import { check, type CheckName } from './checker.js';
import type { Request, Scenario, Step } from './scenario.js';
import { simulate } from './simulate.js';
import type { WorldOptions } from './world.js';

/** Runs that may be spent on it. */
const MAX_RUNS = 400;

/**
 * Cuts a scenario down for as long as the same check fails: faults, writes, clients, requests, nodes, and what is odd about clocks
 * and network. What is left is a story short enough to read.
 */
export async function shrink(scenario: Scenario, failing: CheckName, options: WorldOptions = {}): Promise<Scenario> {
  let runs = 0;
  const fails = async (candidate: Scenario): Promise<boolean> => {
    runs += 1;
    const { history } = await simulate(candidate, options);
    return check(history).some((violation) => violation.check === failing);
  };
  let smallest = scenario;
  for (let size = Infinity; sizeOf(smallest) < size && runs < MAX_RUNS;) {
    size = sizeOf(smallest);
    for (const candidates of [
      smallerSteps,
      smallerWrites,
      smallerClients,
      smallerNodes,
      plainer,
      smallerRequests,
      smallerSettles,
    ]) {
      for (const cut of candidates(smallest)) {
        if (runs >= MAX_RUNS) break;
        const candidate = cut(smallest);
        if (sizeOf(candidate) < sizeOf(smallest) && (await fails(candidate))) smallest = candidate;
      }
    }
  }
  return smallest;
}

type Cut = (scenario: Scenario) => Scenario;

function sizeOf({ nodes, steps, requests, loadMs, writes = [] }: Scenario): number {
  const odd = nodes.filter((node) => node.clockOffsetMs !== 0 || node.clockRate !== 1 || node.slowMs !== 0).length;
  const retries = requests.filter((request) => request.retries > 0).length;
  const settles = requests.reduce((sum, request) => sum + (request.settles?.length ?? 0), 0);
  const calls = requests.length + settles + writes.length;
  return nodes.length * 100 + steps.length * 100 + calls + odd + retries + loadMs / 10_000;
}

function smallerSteps({ steps }: Scenario): Cut[] {
  return steps.map((step) => (scenario) => ({ ...scenario, steps: scenario.steps.filter((other) => other !== step) }));
}

function smallerWrites({ writes = [] }: Scenario): Cut[] {
  return writes.map((write) => (scenario) => ({
    ...scenario,
    writes: (scenario.writes ?? []).filter((other) => other !== write),
  }));
}

function smallerSettles({ requests }: Scenario): Cut[] {
  const calls = requests.flatMap((request) => request.settles ?? []);
  return calls.map((call) => (scenario) => ({
    ...scenario,
    requests: scenario.requests.map((request) =>
      request.settles?.includes(call) === true
        ? { ...request, settles: request.settles.filter((other) => other !== call) }
        : request,
    ),
  }));
}

function smallerClients({ requests }: Scenario): Cut[] {
  const clientIds = [...new Set(requests.map(({ clientId }) => clientId))];
  const only = clientIds.map((id): Cut => keepRequests((request) => request.clientId === id));
  return [...only, ...clientIds.map((id): Cut => keepRequests((request) => request.clientId !== id))];
}

/** Runs of requests, long ones first. */
function smallerRequests({ requests }: Scenario): Cut[] {
  const cuts: Cut[] = [];
  for (let length = Math.ceil(requests.length / 2); length >= 1; length = Math.floor(length / 2)) {
    for (let from = requests.length - length; from >= 0; from -= length) {
      const gone = new Set(requests.slice(from, from + length));
      cuts.push(keepRequests((request) => !gone.has(request)));
    }
  }
  return cuts;
}

function keepRequests(keep: (request: Request) => boolean): Cut {
  return (scenario) => ({ ...scenario, requests: scenario.requests.filter(keep) });
}

function smallerNodes({ nodes }: Scenario): Cut[] {
  return nodes.map(({ id }) => (scenario) => ({
    ...scenario,
    nodes: scenario.nodes.filter((node) => node.id !== id),
    steps: scenario.steps.flatMap((step) => withoutNode(step, id)),
  }));
}

function withoutNode(step: Step, id: NodeId): Step[] {
  const rest = (ids: readonly NodeId[]): NodeId[] => ids.filter((other) => other !== id);
  switch (step.kind) {
    case 'partition': {
      const sides = step.sides.map(rest).filter((side) => side.length > 0);
      return sides.length < 2 ? [] : [{ ...step, sides }];
    }
    case 'one-way': {
      const cut = { ...step, from: rest(step.from), to: rest(step.to) };
      return cut.from.length === 0 || cut.to.length === 0 ? [] : [cut];
    }
    case 'lossy':
    case 'rolling-restart':
    case 'machine-crash':
    case 'machine-leave':
      return [step];
    case 'crash':
    case 'freeze':
    case 'pauses':
    case 'duplicate':
    case 'join':
    case 'leave':
      return step.node === id ? [] : [step];
  }
}

/** Equal clocks, no slow nodes, nobody who tries again, no longer than the last request. */
function plainer({ nodes }: Scenario): Cut[] {
  return [
    (scenario) => ({ ...scenario, requests: scenario.requests.map((request) => ({ ...request, retries: 0 })) }),
    ...nodes.map(({ id }): Cut => (scenario) => ({
      ...scenario,
      nodes: scenario.nodes.map((node) =>
        node.id === id ? { ...node, clockOffsetMs: 0, clockRate: 1, slowMs: 0 } : node,
      ),
    })),
    (scenario) => {
      const { requests, steps, writes = [] } = scenario;
      const lastMs = Math.max(0, ...[...requests, ...steps, ...writes].map(({ atMs }) => atMs));
      return { ...scenario, loadMs: Math.min(scenario.loadMs, lastMs + 100) };
    },
  ];
}

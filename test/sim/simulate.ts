import { decodeClients } from '../../src/state/client-format.js';
import type { Snapshot } from '../../src/limits/bucket/snapshot.js';
import { createCallers } from './callers.js';
import { createCluster } from './cluster.js';
import type { Duplicate, Fault, History, Statement } from './history.js';
import type { Tamper } from './network.js';
import { createOperators } from './operators.js';
import type { Scenario } from './scenario.js';
import { createWeather } from './weather.js';
import { createWorld, type World, type WorldOptions } from './world.js';

/** In which all must have settled after the last fault, in suspicion times. */
const SETTLED_AFTER = 3;
/** Of a lease in a world with an etcd. */
export const MEMBER_TTL_MS = 2_000;
/** A pause between two messages from one node to another that counts as a silence, in suspicion times. */
const SILENT_AFTER = 0.2;

/** A node answers within this, a few messages apart. */
const PROMPT_MS = 300;

export interface Run {
  readonly history: History;
  readonly log: readonly string[];
  readonly events: number;
}

/** Runs a scenario from its first to its last event. The same scenario gives the same run, byte for byte. */
export async function simulate(scenario: Scenario, options: WorldOptions = {}): Promise<Run> {
  const leases = new Map<string, Map<string, number>>();
  const world = createWorld(scenario.seed, { ...options, tamper: noting(leases, options.tamper) });
  const silentMs = scenario.suspectAfterMs * SILENT_AFTER;
  const weather = createWeather(scenario.network, scenario.nodes, () => world.nowMs, silentMs);
  world.setLink(weather.link);
  const faults: Fault[] = [];
  const duplicates: Duplicate[] = [];
  const operators = createOperators(scenario, world);
  const { begin } = operators;
  const cluster = createCluster(
    scenario,
    world,
    weather,
    { faults, duplicates },
    { memberTtlMs: MEMBER_TTL_MS, begin },
  );
  const upMs = await cluster.up();
  const atUp = new Map(
    scenario.nodes.map(({ id }) => [world.find(id), world.find(id)?.cluster.membership.ringVersion()]),
  );
  const callers = createCallers({ cluster, operators, world }, { endMs: upMs + scenario.loadMs });
  for (const request of scenario.requests) world.after(request.atMs, () => callers.ask(request));
  for (const planned of scenario.writes ?? []) {
    const { atMs, ifMatch } = planned;
    if (ifMatch !== undefined)
      world.after(Math.max(0, atMs - ifMatch.beforeMs), () => operators.look(cluster, planned));
    world.after(atMs, () => operators.write(cluster, planned));
  }
  for (const step of scenario.steps) world.after(step.atMs, () => cluster.take(step));
  await world.run(scenario.loadMs);
  const calmMs = await cluster.calm();
  // The node that died last is a member until its lease ends.
  const leaseMs = world.etcd === undefined ? 0 : MEMBER_TTL_MS;
  await world.run(leaseMs + SETTLED_AFTER * scenario.suspectAfterMs);
  for (const silence of weather.silences()) faults.push({ kind: 'silence', ...silence });
  const alive = scenario.nodes.map(({ id }) => id).filter((id) => world.find(id)?.state === 'running');
  const clientIds = [...new Set(scenario.requests.map((request) => request.clientId))];
  const clockError = Math.max(...scenario.nodes.map((node) => Math.abs(node.clockRate - 1)));
  const slowest = scenario.nodes.map((node) => node.slowMs).sort((a, b) => b - a);
  return {
    history: {
      asked: callers.asked,
      settles: callers.settles,
      policies: operators.history,
      faults,
      duplicates,
      statements: alive.map((id) => statementOf(world, id, clientIds, scenario.replicas)),
      clientIds,
      rings: alive.map((node) => {
        const atEnd = world.node(node).cluster.membership.ringVersion();
        return { node, atUp: atUp.get(world.node(node)) ?? atEnd, atEnd };
      }),
      leased: new Map([...leases].map(([clientId, tokens]) => [clientId, sumOf(tokens.values())])),
      upMs,
      calmMs,
      endMs: world.nowMs,
      setting: {
        replicas: scenario.replicas,
        replicationIntervalMs: scenario.replicationIntervalMs,
        suspectAfterMs: scenario.suspectAfterMs,
        maxQueued: scenario.maxQueued,
        delayMs: scenario.network.maxMs + (slowest[0] ?? 0) + (slowest[1] ?? 0),
        promptMs: PROMPT_MS,
        faultErrorMs: 0,
        clockError,
        // A clock in whole ms that is not the world's may gain one at either end.
        clockGrainMs: clockError > 0 ? 2 : 0,
        alive,
        // With an etcd nodes are told by it.
        policyLagMs: world.etcd === undefined ? 0 : 2 * scenario.network.maxMs + (slowest[0] ?? 0),
      },
    },
    log: world.log,
    events: world.events,
  };
}

/** Notes the tokens of each lease that a copy tells of: a lease counts once its copies have arrived. */
function noting(leases: Map<string, Map<string, number>>, tamper: Tamper | undefined): Tamper {
  return {
    ...tamper,
    message(from, to, sent) {
      if (sent.body.kind === 'replicate')
        for (const [clientId, buckets] of decodeClients(sent.body.clients)) note(clientId, buckets);
      return tamper?.message === undefined ? sent : tamper.message(from, to, sent);
    },
  };

  function note(clientId: string, buckets: readonly Snapshot[]): void {
    for (const { leases: told = [] } of buckets) {
      for (const { id, tokens } of told) {
        const ofClient = leases.get(clientId) ?? new Map<string, number>();
        leases.set(clientId, ofClient.set(id, tokens));
      }
    }
  }
}

function sumOf(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function statementOf(world: World, id: string, clientIds: readonly string[], replicas: number): Statement {
  const { admin, membership, activePolicies } = world.node(id).cluster;
  const ring = membership.ring();
  return {
    node: id,
    members: ring.members,
    owners: clientIds.map((clientId) => ({
      owner: ring.owner(clientId),
      successors: ring.replicas(clientId, replicas),
    })),
    clients: clientIds.map((clientId) => admin.describeHere(clientId)),
    policies: activePolicies.document().digest,
  };
}

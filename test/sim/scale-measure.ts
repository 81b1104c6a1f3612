import type { MemberRecord } from '../../src/protocol/messages.js';
import { createRing } from '../../src/limits/ring/rings.js';
import { BEAT_MS, createScaleCluster, idOf, SUSPECT_AFTER_MS, type ScaleCluster } from './scale-cluster.js';
import { createWorld } from './world.js';

export interface ScaleOptions {
  readonly nodes: number;
  /** Over whom the ring's balance is measured. */
  readonly clients: number;
  /** Those with a bucket in the tables, from whom requests come. */
  readonly live: number;
  /** Decisions in one second of load. */
  readonly decisions: number;
  /** Whether another node joins: it asks every node, with a list of all nodes, which of very many is too much to simulate. */
  readonly joins: boolean;
}

export interface Scale extends ScaleOptions {
  /** Clients of the node with the most, in units of the mean. */
  readonly fullest: number;
  /** Ms of processor time in which a node learns that a member has joined, or left: its ring changes, in one turn. */
  readonly joinTurnMs: number;
  readonly leaveTurnMs: number;
  /** Messages to owners, and with copies, for each decision. */
  readonly forwards: number;
  readonly copies: number;
  /** Heartbeats that a node sends in a second while nothing else is said, and the bytes of one and its answer. */
  readonly heartbeats: number;
  readonly heartbeatBytes: number;
  /** One more node: those of `clients` that are its own by the ring; the live ones handed to it, and the ms it took. */
  readonly moved: number;
  readonly joined: { readonly handed: number; readonly tookMs: number } | undefined;
  /** From a crash that nobody is told of until the first and the last node has taken it out of its ring. */
  readonly firstKnowsMs: number;
  readonly allKnowMs: number;
}

/** A size too large to simulate: its ring as it is, and heartbeats as of the next smaller one, which do not grow. */
export function deriveScale(from: Scale, nodes: number): Scale {
  const unknown = { forwards: NaN, copies: NaN, joined: undefined, firstKnowsMs: NaN, allKnowMs: NaN };
  return { ...from, ...measureBalance({ ...from, nodes }), ...measureTurns(nodes), ...unknown, nodes };
}

/** Chunks in which buckets are made: copies go out between two. */
const CHUNK = 50_000;
const SECOND_MS = 1_000;
const LOOK_MS = 5;

/** Runs one size, in virtual time: what a message costs a processor is not in it. */
export async function measureScale(options: ScaleOptions): Promise<Scale> {
  const balance = measureBalance(options);
  const turns = measureTurns(options.nodes);
  // Everyone holds its share and a copy of another's, and one may be fuller than others.
  const cluster = await createScaleCluster(1, options.nodes, Math.ceil((4 * options.live) / options.nodes) + 100);
  await cluster.world.run(5 * BEAT_MS);
  const calm = await measureCalm(cluster);
  await fill(cluster, options.live);
  const load = await measureLoad(cluster, options);
  const joined = options.joins ? await measureJoin(cluster) : undefined;
  const crash = await measureCrash(cluster);
  return { ...options, ...balance, ...turns, ...calm, ...load, joined, ...crash };
}

export function measureBalance({ nodes, clients }: Pick<ScaleOptions, 'nodes' | 'clients'>): {
  fullest: number;
  moved: number;
} {
  const ids = Array.from({ length: nodes }, (_, i) => idOf(i));
  const ring = createRing(ids);
  const larger = createRing([...ids, idOf(nodes)], ring);
  const owned = new Map<string, number>();
  let moved = 0;
  for (let i = 0; i < clients; i += 1) {
    const clientId = clientOf(i);
    const owner = ring.owner(clientId)!;
    owned.set(owner, (owned.get(owner) ?? 0) + 1);
    if (larger.owner(clientId) !== owner) moved += 1;
  }
  return { fullest: Math.max(...owned.values()) / (clients / nodes), moved };
}

/** Members that join, and others that leave, one after another: the turn of the one in the middle counts. */
const TURNS = 9;

/** The turns in which one node learns of a new member, which it has never heard of, and that another has left. */
export function measureTurns(nodes: number): { joinTurnMs: number; leaveTurnMs: number } {
  const world = createWorld(1);
  const { membership } = world.spawn(idOf(0)).cluster;
  membership.declare('active');
  const recordOf = (i: number, state: 'active' | 'left'): MemberRecord => ({
    ...membership.self(),
    id: idOf(i),
    state,
  });
  membership.learn(Array.from({ length: nodes - 1 }, (_, i) => recordOf(i + 1, 'active')));
  const turnMs = (record: MemberRecord): number => {
    const before = process.cpuUsage();
    membership.learn([record]);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1_000;
  };
  const joins: number[] = [];
  const leaves: number[] = [];
  for (let i = nodes; i < nodes + TURNS; i += 1) {
    joins.push(turnMs(recordOf(i, 'active')));
    leaves.push(turnMs(recordOf(i - nodes + 1, 'left')));
  }
  const middle = (turns: number[]): number => turns.sort((a, b) => a - b)[TURNS >> 1]!;
  return { joinTurnMs: middle(joins), leaveTurnMs: middle(leaves) };
}

async function measureCalm({ world, ids, traffic }: ScaleCluster) {
  traffic();
  await world.run(SECOND_MS / 2);
  const { messages, heartbeatBytes } = traffic();
  const heartbeats = messages.get('heartbeat') ?? 0;
  return { heartbeats: (2 * heartbeats) / ids.length, heartbeatBytes };
}

/** Gives each client a bucket. */
async function fill({ world, ask }: ScaleCluster, live: number): Promise<void> {
  for (let i = 0; i < live; i += 1) {
    ask(clientOf(i));
    if ((i + 1) % CHUNK === 0) await world.run(SECOND_MS / 20);
  }
  await world.run(2 * BEAT_MS);
}

async function measureLoad({ world, ids, traffic, ask }: ScaleCluster, { live, decisions }: ScaleOptions) {
  traffic();
  for (let i = 0; i < decisions; i += 1) {
    const clientId = clientOf(world.random.between(0, live - 1));
    const at = world.random.pick(ids);
    world.after((i * SECOND_MS) / decisions, () => ask(clientId, at));
  }
  await world.run(SECOND_MS);
  const { messages } = traffic();
  const each = (kind: 'decide' | 'replicate'): number => (messages.get(kind) ?? 0) / decisions;
  return { forwards: each('decide'), copies: each('replicate') };
}

async function measureJoin({ world, ids, join }: ScaleCluster) {
  const tookMs = await join();
  const handed = ids.reduce((sum, id) => sum + world.node(id).cluster.stats().handedClients, 0);
  return { tookMs, handed };
}

async function measureCrash({ world, ids }: ScaleCluster) {
  const [victim, ...others] = ids;
  await world.run(2 * BEAT_MS);
  world.kill(victim!, true);
  const fromMs = world.nowMs;
  const unaware = new Set(others);
  let firstKnowsMs: number | undefined;
  while (unaware.size > 0 && world.nowMs < fromMs + 3 * SUSPECT_AFTER_MS) {
    await world.run(LOOK_MS);
    for (const id of unaware) {
      if (world.node(id).cluster.membership.ring().members.includes(victim!)) continue;
      unaware.delete(id);
      firstKnowsMs ??= world.nowMs - fromMs;
    }
  }
  if (unaware.size > 0) throw new Error(`${unaware.size} nodes do not know of the crash`);
  return { firstKnowsMs: firstKnowsMs!, allKnowMs: world.nowMs - fromMs };
}

function clientOf(i: number): string {
  return `client-${i}`;
}

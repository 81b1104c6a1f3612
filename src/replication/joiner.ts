import { NO_PEER_ANSWERS } from '../lib/log.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import type { PeerAnswer, PeerMessage } from '../protocol/messages.js';
import type { Ask } from '../protocol/peer-transport.js';
import type { Clock, Timers } from '../lib/clock.js';
import type { Discovery } from '../membership/discovery.js';
import type { Log } from '../lib/log.js';
import type { RegistrySession } from '../membership/registry-session.js';

/** Pause before a failed step is tried again. */
const RETRY_MS = 50;
/**
 * A node compares lists this often before it begins a ring although some members did not answer, or are joining too.
 * They may know of a ring.
 */
const COMPARE_ROUNDS = 3;

interface JoinerDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly membership: Membership;
  readonly discovery: Discovery;
  readonly ask: Ask;
  readonly log: Log;
  /** See `Copies.beginMerge`. */
  readonly beginMerge: (clients: Uint8Array) => (most: number) => number;
  /**
   * Makes checks wait until the returned function is called: this node may be in some rings although it cannot decide
   * yet.
   */
  readonly hold: () => () => void;
  /** Fetches the policies from these members. @returns whether this node has them */
  readonly catchUp: (ids: readonly NodeId[]) => Promise<boolean>;
  /** Present if there is a registry. */
  readonly registryMember:
    | {
        readonly session: RegistrySession;
        /** Registers this node as active. */ readonly activate: () => Promise<boolean>;
      }
    | undefined;
  readonly isClosed: () => boolean;
  /** Sends clients that only this node remembers to their owners. @returns whether all have them */
  readonly returnToOwners: () => Promise<boolean>;
  /** Called with the reason why this node is not in a ring yet; with `undefined` once there is none. */
  readonly noteWaiting: (reason: string | undefined) => void;
}

interface JoinerOptions {
  /** Timeout of each message. */
  readonly timeoutMs: number;
  /** A node that has met no peer waits this long before it begins a ring of its own. */
  readonly bootstrapMs: number;
}

/**
 * Brings this node into the ring. It finds the members and collects the clients that it will own, while the members go
 * on deciding. Then it asks each member to admit it, and gets what changed meanwhile. From the first admission to the
 * last, it holds the checks that reach it. So at any time one node decides for each client.
 */
export async function join(deps: JoinerDeps, options: JoinerOptions): Promise<void> {
  const { clock, timers, membership, log, isClosed, noteWaiting } = deps;
  const mayBegin = createBootstrap(deps, clock.nowMs() + options.bootstrapMs);
  let release: (() => void) | undefined;
  for (let round = 1; !isClosed() && membership.mustJoin(); round += 1) {
    if (!(await register(deps))) {
      await timers.sleep(RETRY_MS);
      continue;
    }
    const { failures, met } = await compareLists(deps, options.timeoutMs);
    const { members: donors, checksum } = membership.ring();
    if (donors.length === 0) {
      // Nobody decides yet. Of several nodes that start together, the first by id begins the ring and the others join
      // it.
      const isUnsure = failures.some(({ kind }) => kind !== 'refused') || hasJoiners(membership);
      const isFirst = !hasEarlierJoiner(membership) && (!isUnsure || round >= COMPARE_ROUNDS);
      if (mayBegin(met, failures) && isFirst && (await activate(deps))) log.info({ members: 1 }, 'began a ring of one');
      else await timers.sleep(RETRY_MS);
      continue;
    }
    noteWaiting(undefined);
    // Members that refuse connections hand over nothing and admit nobody.
    const gone = membership.refusedIds().filter((id) => donors.includes(id));
    const present = donors.filter((id) => !gone.includes(id));
    if (
      !hasEarlierJoiner(membership) &&
      (await collectAll(deps, present, gone, options.timeoutMs)) &&
      // All donors may be gone; those that are not have the policies.
      (await deps.catchUp(present)) &&
      (await deps.returnToOwners())
    ) {
      // Held until this node decides: if it has to begin anew, some members may have admitted it already.
      release ??= deps.hold();
      if (await enter(deps, checksum, gone, options.timeoutMs)) {
        // A write that was answered before this node was a member did not wait for it.
        if (deps.registryMember === undefined) await deps.catchUp(present);
        log.info({ members: membership.ring().members.length }, 'joined the ring');
        break;
      }
    }
    await timers.sleep(RETRY_MS);
  }
  noteWaiting(undefined);
  release?.();
}

/** With a registry: registers this node as joining. @returns whether the node may go on */
async function register({ registryMember, catchUp }: JoinerDeps): Promise<boolean> {
  if (registryMember === undefined) return true;
  return (await catchUp([])) && (await registryMember.session.register());
}

/** An address that gave no answer. */
interface Failure {
  readonly address: NodeId;
  readonly kind: 'refused' | 'broken' | 'timeout';
}

const FAILURES: Readonly<Record<Failure['kind'], string>> = {
  refused: 'nothing listens there',
  broken: 'it did not accept this node: compare secrets, certificates, and cluster names',
  timeout: 'no answer',
};

/**
 * A node that has met no peer waits before it begins a ring: its peers may have one that it cannot reach for a mistake.
 */
function createBootstrap(
  { clock, membership, log, noteWaiting }: JoinerDeps,
  untilMs: number,
): (met: boolean, failures: readonly Failure[]) => boolean {
  let waited = false;
  return (met, failures) => {
    if (met || membership.others().length > 0) {
      noteWaiting(undefined);
      return true;
    }
    const reasons = failures.map(({ address, kind }) => `${address}: ${FAILURES[kind]}`);
    const peers = reasons.length === 0 ? 'discovery finds none' : reasons.join('; ');
    if (clock.nowMs() < untilMs) {
      noteWaiting(`this node has met none of its peers: ${peers}`);
      if (!waited) log.warn({ peers, waitMs: untilMs - clock.nowMs() }, NO_PEER_ANSWERS);
      waited = true;
      return false;
    }
    if (waited) log.warn({ peers }, 'no peer answered in time; beginning a ring of one');
    return true;
  };
}

/** A message with a list of 1,000 members takes about 0.5 ms to write. So many go out in one turn of the event loop. */
const ASKED_PER_TURN = 8;

/** Asks members at the same time, a few in each turn of the event loop. */
async function askEach<T>(
  { timers }: Pick<JoinerDeps, 'timers'>,
  ids: readonly NodeId[],
  askOne: (id: NodeId) => Promise<T>,
): Promise<T[]> {
  const asked: Promise<T>[] = [];
  for (const id of ids) {
    if (asked.length > 0 && asked.length % ASKED_PER_TURN === 0)
      await new Promise<void>((resolve) => timers.soon(resolve));
    asked.push(askOne(id));
  }
  return Promise.all(asked);
}

/** Compares member lists with all seeds, and with all members that may be up. */
async function compareLists(
  { timers, membership, discovery, ask }: JoinerDeps,
  timeoutMs: number,
): Promise<{ readonly failures: readonly Failure[]; readonly met: boolean }> {
  const seeds = await discovery.seeds();
  const addresses = new Set([...seeds, ...membership.others()]);
  addresses.delete(membership.self().id);
  let met = seeds.length > 0 && addresses.size === 0;
  const asked = await askEach({ timers }, [...addresses], async (address): Promise<Failure[]> => {
    if (membership.stateOf(address) !== undefined && membership.isDown(address)) return [];
    const { kind } = await ask(address, { kind: 'heartbeat', members: membership.records() }, timeoutMs);
    if (kind !== 'answer') return [{ address, kind }];
    met = true;
    return [];
  });
  return { failures: asked.flat(), met };
}

function hasJoiners(membership: Membership): boolean {
  return membership.others().some((id) => membership.stateOf(id) === 'joining');
}

/** Members join one at a time, as that is faster: the first by id of those that are up. */
function hasEarlierJoiner(membership: Membership): boolean {
  return membership
    .others()
    .some((id) => id < membership.self().id && membership.stateOf(id) === 'joining' && !membership.isDown(id));
}

async function collectAll(
  deps: JoinerDeps,
  present: readonly NodeId[],
  gone: readonly NodeId[],
  timeoutMs: number,
): Promise<boolean> {
  const collected = await Promise.all(present.map((donor) => collect(deps, donor, gone, timeoutMs)));
  return collected.every(Boolean);
}

/** Collects the handoff of `donor` chunk by chunk, and asks again for a lost chunk. */
async function collect(deps: JoinerDeps, donor: NodeId, gone: readonly NodeId[], timeoutMs: number): Promise<boolean> {
  const { membership, ask, log } = deps;
  let clients = 0;
  for (let chunk = 0, failures = 0; ;) {
    const asked = await ask(donor, { kind: 'handoff', chunk, gone }, timeoutMs);
    if (asked.kind === 'answer' && asked.body.kind === 'handed') {
      clients += await mergeInSlices(deps, asked.body.clients);
      failures = 0;
      if (chunk % 100 === 0 || !asked.body.more) {
        log.info({ donor, clients, of: asked.body.total, done: !asked.body.more }, 'handoff');
      }
      if (!asked.body.more) return true;
      chunk += 1;
    } else {
      if (asked.kind === 'answer' || asked.kind === 'refused') return false;
      failures += 1;
      if (!membership.ring().members.includes(donor) || failures > 5 || deps.isClosed()) return false;
      await deps.timers.sleep(RETRY_MS);
    }
  }
}

/**
 * Asks every member of the ring to admit this node, except those that were gone at the handoff.
 * @returns whether all have; false once the ring, or the set of members that are gone, is another one
 */
async function enter(deps: JoinerDeps, checksum: string, gone: readonly NodeId[], timeoutMs: number): Promise<boolean> {
  const { membership, ask, timers } = deps;
  const incarnation = membership.self().incarnation;
  const admitted = new Set<NodeId>();
  for (;;) {
    const ring = membership.ring();
    // Another ring gives this node other clients than those that were handed over.
    if (deps.isClosed() || ring.checksum !== checksum || membership.self().incarnation !== incarnation) return false;
    const missing = ring.members.filter((id) => !admitted.has(id) && !gone.includes(id));
    if (missing.length === 0) {
      if (await activate(deps)) return true;
      await timers.sleep(RETRY_MS);
      continue;
    }
    // This node would own the clients of a member that is gone now, which were not handed over.
    if (missing.some((id) => membership.refusedIds().includes(id))) return false;
    const record = membership.announce('active');
    const members = membership.routedRecords();
    const answers = await askEach(deps, missing, async (id): Promise<[NodeId, PeerAnswer | undefined]> => {
      const message: PeerMessage = { kind: 'admit', record, ring: ring.checksum, members };
      const asked = await ask(id, message, timeoutMs);
      return [id, asked.kind === 'answer' ? asked.body : undefined];
    });
    let otherRing = false;
    for (const [id, answer] of answers) {
      if (answer?.kind === 'handed') {
        await mergeInSlices(deps, answer.clients);
        if (!answer.more) admitted.add(id);
      } else if (answer?.kind === 'not-yet') {
        membership.learn(answer.members);
        otherRing = true;
      }
    }
    if (otherRing) return false;
    if (missing.some((id) => !admitted.has(id))) await timers.sleep(RETRY_MS);
  }
}

/** Clients that are merged in one turn of the event loop: a millisecond or two. */
const SLICE = 200;

/** @returns the number of clients */
async function mergeInSlices({ beginMerge, timers }: JoinerDeps, clients: Uint8Array): Promise<number> {
  const mergeNext = beginMerge(clients);
  for (let merged = 0; ;) {
    const slice = mergeNext(SLICE);
    merged += slice;
    if (slice < SLICE) return merged;
    await new Promise<void>((resolve) => timers.soon(resolve));
  }
}

async function activate({ membership, registryMember }: JoinerDeps): Promise<boolean> {
  if (registryMember !== undefined) return registryMember.activate();
  membership.declare('active');
  return true;
}

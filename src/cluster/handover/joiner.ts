import type { NodeId } from '../../core/ring.js';
import type { Membership } from '../membership/membership.js';
import type { ClientSnapshot, PeerAnswer, PeerMessage } from '../messages.js';
import type { Ask, Discovery, Log, Timers } from '../ports.js';
import type { RegistryMember } from './registry-member.js';

/** Pause before something that did not work is tried again. */
const RETRY_MS = 50;
/** So often others are asked before this node begins a ring, where some do not answer, or are themselves still asking around. */
const GREETINGS = 3;

interface JoinerDeps {
  readonly timers: Timers;
  readonly membership: Membership;
  readonly discovery: Discovery;
  readonly ask: Ask;
  readonly log: Log;
  /** Takes over copies of clients. */
  readonly keep: (clients: readonly ClientSnapshot[]) => void;
  /** Makes checks that reach this node wait until the returned function is called: it may be in some rings, but cannot decide yet. */
  readonly hold: () => () => void;
  /** Learns the policies, given who decides. @returns whether it has */
  readonly catchUp: (ids: readonly NodeId[]) => Promise<boolean>;
  /** With a registry: writes this node down in it. */
  readonly registryMember: Pick<RegistryMember, 'session' | 'activate'> | undefined;
  readonly isClosed: () => boolean;
  /** Brings to the members what this node alone remembers of their clients. @returns whether all have it */
  readonly returnToOwners: () => Promise<boolean>;
}

/**
 * Brings this node into the ring: finds the members, has their share of the clients handed over while they go on deciding,
 * and then has each let it in, with what changed since. From the first that did until the last, this node holds the checks
 * that reach it: each of its clients is decided by one node at any time.
 */
export async function join(deps: JoinerDeps, options: { timeoutMs: number }): Promise<void> {
  const { timers, membership, log, isClosed } = deps;
  let release: (() => void) | undefined;
  for (let greetings = 1; !isClosed() && membership.mustJoin; greetings += 1) {
    if (
      deps.registryMember !== undefined &&
      !((await deps.catchUp([])) && (await deps.registryMember.session.register()))
    ) {
      await timers.sleep(RETRY_MS);
      continue;
    }
    const unsure = await greet(deps, options.timeoutMs);
    const { members: donors, checksum } = membership.ring;
    if (donors.length === 0) {
      // Nobody decides yet. Of those who start together the first by id begins the ring, and the others join it.
      const first = !olderJoiner(membership) && (!unsure || greetings >= GREETINGS);
      if (first && (await activate(deps))) log.info({ members: 1 }, 'began a ring of one');
      else await timers.sleep(RETRY_MS);
      continue;
    }
    // Nobody listens there any more: they hand over nothing, and let nobody in.
    const gone = membership.refusedIds().filter((id) => donors.includes(id));
    const present = donors.filter((id) => !gone.includes(id));
    if (
      !olderJoiner(membership) &&
      (await collectAll(deps, present, gone, options.timeoutMs)) &&
      // All may be gone; whoever is not holds the policies.
      (await deps.catchUp(present)) &&
      (await deps.returnToOwners())
    ) {
      // Held until this node decides: should it have to begin anew, some may have let it in already.
      release ??= deps.hold();
      if (await enter(deps, checksum, gone, options.timeoutMs)) {
        log.info({ members: membership.ring.members.length }, 'joined the ring');
        break;
      }
    }
    await timers.sleep(RETRY_MS);
  }
  release?.();
}

/**
 * Compares member lists with all seeds, and with all members that may be up.
 * @returns whether there may be a ring all the same: some neither answered nor refused, or are joining too
 */
async function greet({ membership, discovery, ask }: JoinerDeps, timeoutMs: number): Promise<boolean> {
  const addresses = new Set([...(await discovery.seeds()), ...membership.others()]);
  addresses.delete(membership.self.id);
  const silent = await Promise.all(
    [...addresses].map(async (address) => {
      if (membership.stateOf(address) !== undefined && membership.isDown(address)) return false;
      const { kind } = await ask(address, { kind: 'heartbeat', members: membership.records() }, timeoutMs);
      return kind !== 'answer' && kind !== 'refused';
    }),
  );
  return silent.some(Boolean) || membership.others().some((id) => membership.stateOf(id) === 'joining');
}

/** One at a time goes faster than all at once: a living member that joins too, and comes first by id, goes first. */
function olderJoiner(membership: Membership): boolean {
  return membership
    .others()
    .some((id) => id < membership.self.id && membership.stateOf(id) === 'joining' && !membership.isDown(id));
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

/** Pulls what `donor` hands over, chunk by chunk; one that was lost is asked for again. */
async function collect(deps: JoinerDeps, donor: NodeId, gone: readonly NodeId[], timeoutMs: number): Promise<boolean> {
  const { membership, ask, keep, log } = deps;
  let clients = 0;
  for (let chunk = 0, failures = 0; ;) {
    const asked = await ask(donor, { kind: 'handoff', chunk, gone }, timeoutMs);
    if (asked.kind === 'answer' && asked.body.kind === 'handed') {
      keep(asked.body.clients);
      clients += asked.body.clients.length;
      failures = 0;
      if (chunk % 100 === 0 || !asked.body.more) {
        log.info({ donor, clients, of: asked.body.total, done: !asked.body.more }, 'handoff');
      }
      if (!asked.body.more) return true;
      chunk += 1;
    } else {
      if (asked.kind === 'answer' || asked.kind === 'refused') return false;
      failures += 1;
      if (!membership.ring.members.includes(donor) || failures > 5 || deps.isClosed()) return false;
      await deps.timers.sleep(RETRY_MS);
    }
  }
}

/**
 * Asks every member of the ring to let this node in, but for those who were gone when it was handed over; until all have, or the
 * ring, or who is gone of it, is not the same any more.
 */
async function enter(deps: JoinerDeps, checksum: string, gone: readonly NodeId[], timeoutMs: number): Promise<boolean> {
  const { membership, ask, keep, timers } = deps;
  const incarnation = membership.self.incarnation;
  const admitted = new Set<NodeId>();
  for (;;) {
    const { ring } = membership;
    // Another ring, be it larger or smaller, gives this node other clients than were handed over; an empty one, a ring of its own.
    if (deps.isClosed() || ring.checksum !== checksum || membership.self.incarnation !== incarnation) return false;
    const missing = ring.members.filter((id) => !admitted.has(id) && !gone.includes(id));
    if (missing.length === 0) {
      if (await activate(deps)) return true;
      await timers.sleep(RETRY_MS);
      continue;
    }
    // Its clients have this node to decide for them now, without having been handed over.
    if (missing.some((id) => membership.refusedIds().includes(id))) return false;
    const record = membership.announce('active');
    const answers = await Promise.all(
      missing.map(async (id): Promise<[NodeId, PeerAnswer | undefined]> => {
        const message: PeerMessage = {
          kind: 'admit',
          record,
          ring: ring.checksum,
          members: membership.routedRecords(),
        };
        const asked = await ask(id, message, timeoutMs);
        return [id, asked.kind === 'answer' ? asked.body : undefined];
      }),
    );
    let otherRing = false;
    for (const [id, answer] of answers) {
      if (answer?.kind === 'handed') {
        keep(answer.clients);
        admitted.add(id);
      } else if (answer?.kind === 'not-yet') {
        membership.learn(answer.members);
        otherRing = true;
      }
    }
    if (otherRing) return false;
    if (missing.some((id) => !admitted.has(id))) await timers.sleep(RETRY_MS);
  }
}

async function activate({ membership, registryMember }: JoinerDeps): Promise<boolean> {
  if (registryMember !== undefined) return registryMember.activate();
  membership.declare('active');
  return true;
}

import { NO_PEER_ANSWERS, type Log, type Clock, type Timers } from '../lib/system.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import type { PeerAnswer, PeerMessage, Ask } from '../protocol/messages.js';
import type { Discovery } from '../membership/discovery.js';
import type { RegistrySession } from '../membership/registry-session.js';

/** Pause before a failed step is tried again. */
const RETRY_MS = 50;
/**
 * A node compares lists this often before it begins a ring although some members did not answer, or are joining too.
 * They may know of a ring.
 */
const COMPARE_ROUNDS = 3;
/** A message with a list of 1,000 members takes about 0.5 ms to write. So many go out in one turn of the event loop. */
const ASKED_PER_TURN = 8;
/** Clients that are merged in one turn of the event loop: a millisecond or two. */
const SLICE = 200;

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

/** With a registry: this node's registration. */
interface Registrar {
  readonly session: RegistrySession;
  /** Registers this node as active. */
  activate(): Promise<boolean>;
}

/**
 * Brings this node into the ring. It finds the members and collects the clients that it will own, while the members go
 * on deciding. Then it asks each member to accept it, and gets what changed meanwhile. From the first acceptance to the
 * last, it holds the checks that reach it. So at any time one node decides for each client.
 */
export class Joiner {
  private closed = false;
  private waitingReason: string | undefined;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly membership: Membership;
  private readonly registrar: Registrar | undefined;
  private readonly discovery: Discovery;
  private readonly ask: Ask;
  private readonly log: Log;
  private readonly beginMerge: (clients: Uint8Array) => (most: number) => number;
  private readonly hold: () => () => void;
  private readonly catchUp: (ids: readonly NodeId[]) => Promise<boolean>;
  private readonly returnToOwners: () => Promise<boolean>;
  private readonly timeoutMs: number;

  constructor(args: {
    clock: Clock;
    timers: Timers;
    membership: Membership;
    /** Present if there is a registry. */
    registrar: Registrar | undefined;
    discovery: Discovery;
    ask: Ask;
    log: Log;
    /** See `Copies.beginMerge`. */
    beginMerge: (clients: Uint8Array) => (most: number) => number;
    /**
     * Makes checks wait until the returned function is called: this node may be in some rings although it cannot decide
     * yet.
     */
    hold: () => () => void;
    /** Fetches the policies from these members. @returns whether this node has them */
    catchUp: (ids: readonly NodeId[]) => Promise<boolean>;
    /** Sends clients that only this node remembers to their owners. @returns whether all have them */
    returnToOwners: () => Promise<boolean>;
    /** Timeout of each message. */
    timeoutMs: number;
  }) {
    this.clock = args.clock;
    this.timers = args.timers;
    this.membership = args.membership;
    this.registrar = args.registrar;
    this.discovery = args.discovery;
    this.ask = args.ask;
    this.log = args.log;
    this.beginMerge = args.beginMerge;
    this.hold = args.hold;
    this.catchUp = args.catchUp;
    this.returnToOwners = args.returnToOwners;
    this.timeoutMs = args.timeoutMs;
  }

  /** Why this node is not in a ring yet; `undefined` if it is, or is about to be. */
  waitingFor(): string | undefined {
    return this.waitingReason;
  }

  /** Ends a join that is under way. */
  close(): void {
    this.closed = true;
  }

  /**
   * Joins; resolves when this node decides, or is closed.
   * @param bootstrapMs a node that has met no peer waits this long before it begins a ring of its own
   */
  async join(bootstrapMs: number): Promise<void> {
    const { timers, membership, log } = this;
    const aloneAtMs = this.clock.nowMs() + bootstrapMs;
    let release: (() => void) | undefined;
    for (let round = 1; !this.closed && membership.mustJoin(); round += 1) {
      if (!(await this.register())) {
        await timers.sleep(RETRY_MS);
        continue;
      }
      const { failures, met } = await this.compareLists();
      const { members: donors, checksum } = membership.ring();
      if (donors.length === 0) {
        // Nobody decides yet. Of several nodes that start together, the first by id begins the ring and the others join
        // it.
        const isUnsure = failures.some(({ kind }) => kind !== 'refused') || this.hasJoiners();
        const isFirst = !this.hasEarlierJoiner() && (!isUnsure || round >= COMPARE_ROUNDS);
        if (this.mayBegin(met, failures, aloneAtMs) && isFirst && (await this.activate()))
          log.info({ members: 1 }, 'began a ring of one');
        else await timers.sleep(RETRY_MS);
        continue;
      }
      this.waitingReason = undefined;
      // Members that refuse connections hand over nothing and accept nobody.
      const gone = membership.refusedIds().filter((id) => donors.includes(id));
      const present = donors.filter((id) => !gone.includes(id));
      if (
        !this.hasEarlierJoiner() &&
        (await this.collectAll(present, gone)) &&
        // All donors may be gone; those that are not have the policies.
        (await this.catchUp(present)) &&
        (await this.returnToOwners())
      ) {
        // Held until this node decides: if it has to begin anew, some members may have accepted it already.
        release ??= this.hold();
        if (await this.enter(checksum, gone)) {
          // A write that was answered before this node was a member did not wait for it.
          if (this.registrar === undefined) await this.catchUp(present);
          log.info({ members: membership.ring().members.length }, 'joined the ring');
          break;
        }
      }
      await timers.sleep(RETRY_MS);
    }
    this.waitingReason = undefined;
    release?.();
  }

  /** With a registry: registers this node as joining. @returns whether the node may go on */
  private async register(): Promise<boolean> {
    if (this.registrar === undefined) return true;
    return (await this.catchUp([])) && (await this.registrar.session.register());
  }

  private async activate(): Promise<boolean> {
    if (this.registrar !== undefined) return this.registrar.activate();
    this.membership.declare('active');
    return true;
  }

  /**
   * A node that has met no peer waits before it begins a ring: its peers may have one that it cannot reach for a
   * mistake.
   */
  private mayBegin(met: boolean, failures: readonly Failure[], aloneAtMs: number): boolean {
    const hadToWait = this.waitingReason !== undefined;
    if (met || this.membership.others().length > 0) {
      this.waitingReason = undefined;
      return true;
    }
    const reasons = failures.map(({ address, kind }) => `${address}: ${FAILURES[kind]}`);
    const peers = reasons.length === 0 ? 'discovery finds none' : reasons.join('; ');
    const waitMs = aloneAtMs - this.clock.nowMs();
    if (waitMs > 0) {
      this.waitingReason = `this node has met none of its peers: ${peers}`;
      if (!hadToWait) this.log.warn({ peers, waitMs }, NO_PEER_ANSWERS);
      return false;
    }
    if (hadToWait) this.log.warn({ peers }, 'no peer answered in time; beginning a ring of one');
    return true;
  }

  /** Asks members at the same time, a few in each turn of the event loop. */
  private async askEach<T>(ids: readonly NodeId[], askOne: (id: NodeId) => Promise<T>): Promise<T[]> {
    const asked: Promise<T>[] = [];
    for (const id of ids) {
      if (asked.length > 0 && asked.length % ASKED_PER_TURN === 0) await this.soon();
      asked.push(askOne(id));
    }
    return Promise.all(asked);
  }

  private soon(): Promise<void> {
    return new Promise((resolve) => this.timers.soon(resolve));
  }

  /** Compares member lists with all seeds, and with all members that may be up. */
  private async compareLists(): Promise<{ readonly failures: readonly Failure[]; readonly met: boolean }> {
    const { membership } = this;
    const seeds = await this.discovery.seeds();
    const addresses = new Set([...seeds, ...membership.others()]);
    addresses.delete(membership.self().id);
    let met = seeds.length > 0 && addresses.size === 0;
    const asked = await this.askEach([...addresses], async (address): Promise<Failure[]> => {
      if (membership.stateOf(address) !== undefined && membership.isDown(address)) return [];
      const message: PeerMessage = { kind: 'heartbeat', members: membership.records() };
      const { kind } = await this.ask(address, message, this.timeoutMs);
      if (kind !== 'answer') return [{ address, kind }];
      met = true;
      return [];
    });
    return { failures: asked.flat(), met };
  }

  private hasJoiners(): boolean {
    return this.membership.others().some((id) => this.membership.stateOf(id) === 'joining');
  }

  /** Members join one at a time, as that is faster: the first by id of those that are up. */
  private hasEarlierJoiner(): boolean {
    const { membership } = this;
    return membership
      .others()
      .some((id) => id < membership.self().id && membership.stateOf(id) === 'joining' && !membership.isDown(id));
  }

  private async collectAll(present: readonly NodeId[], gone: readonly NodeId[]): Promise<boolean> {
    const collected = await Promise.all(present.map((donor) => this.collect(donor, gone)));
    return collected.every(Boolean);
  }

  /** Collects the handoff of `donor` chunk by chunk, and asks again for a lost chunk. */
  private async collect(donor: NodeId, gone: readonly NodeId[]): Promise<boolean> {
    const { membership, log } = this;
    let clients = 0;
    for (let chunk = 0, failures = 0; ;) {
      const asked = await this.ask(donor, { kind: 'handoff', chunk, gone }, this.timeoutMs);
      if (asked.kind === 'answer' && asked.body.kind === 'handed') {
        clients += await this.mergeInSlices(asked.body.clients);
        failures = 0;
        if (chunk % 100 === 0 || !asked.body.more) {
          log.info({ donor, clients, of: asked.body.total, done: !asked.body.more }, 'handoff');
        }
        if (!asked.body.more) return true;
        chunk += 1;
      } else {
        if (asked.kind === 'answer' || asked.kind === 'refused') return false;
        failures += 1;
        if (!membership.ring().members.includes(donor) || failures > 5 || this.closed) return false;
        await this.timers.sleep(RETRY_MS);
      }
    }
  }

  /**
   * Asks every member of the ring to accept this node, except those that were gone at the handoff.
   * @returns whether all have; false once the ring, or the set of members that are gone, is another one
   */
  private async enter(checksum: string, gone: readonly NodeId[]): Promise<boolean> {
    const { membership, timers } = this;
    const incarnation = membership.self().incarnation;
    const accepted = new Set<NodeId>();
    for (;;) {
      const ring = membership.ring();
      // Another ring gives this node other clients than those that were handed over.
      if (this.closed || ring.checksum !== checksum || membership.self().incarnation !== incarnation) return false;
      const missing = ring.members.filter((id) => !accepted.has(id) && !gone.includes(id));
      if (missing.length === 0) {
        if (await this.activate()) return true;
        await timers.sleep(RETRY_MS);
        continue;
      }
      // This node would own the clients of a member that is gone now, which were not handed over.
      if (missing.some((id) => membership.refusedIds().includes(id))) return false;
      const record = membership.announce('active');
      const members = membership.routedRecords();
      const answers = await this.askEach(missing, async (id): Promise<[NodeId, PeerAnswer | undefined]> => {
        const message: PeerMessage = { kind: 'enter', record, ring: ring.checksum, members };
        const asked = await this.ask(id, message, this.timeoutMs);
        return [id, asked.kind === 'answer' ? asked.body : undefined];
      });
      let otherRing = false;
      for (const [id, answer] of answers) {
        if (answer?.kind === 'handed') {
          await this.mergeInSlices(answer.clients);
          if (!answer.more) accepted.add(id);
        } else if (answer?.kind === 'not-yet') {
          membership.learn(answer.members);
          otherRing = true;
        }
      }
      if (otherRing) return false;
      if (missing.some((id) => !accepted.has(id))) await timers.sleep(RETRY_MS);
    }
  }

  /** @returns the number of clients */
  private async mergeInSlices(clients: Uint8Array): Promise<number> {
    const mergeNext = this.beginMerge(clients);
    for (let merged = 0; ;) {
      const slice = mergeNext(SLICE);
      merged += slice;
      if (slice < SLICE) return merged;
      await this.soon();
    }
  }
}

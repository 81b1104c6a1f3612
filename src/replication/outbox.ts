import { hasLeases } from '../limits/bucket/bucket.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import type { Ask } from '../protocol/messages.js';
import type { Clock } from '../lib/system.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import { MAX_COPIES_BYTES, type Copies, type CopyBatch } from '../state/copies.js';
import { Outgoing, type Queued } from './outgoing.js';

export interface Unsent {
  readonly copies: CopyBatch;
  readonly more: boolean;
}

/** Clients in one message. A receiver merges them in about a millisecond. */
const CHUNK = 1_000;

interface Target {
  readonly outgoing: Outgoing;
  done: Promise<void>;
  sinceMs: number;
}

/**
 * Copies that wait for other nodes or are under way. Each node gets one message at a time. A copy is made when its
 * message is made.
 */
export class Outbox {
  private readonly targets = new Map<NodeId, Target>();

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly membership: Pick<Membership, 'isDown'>;
      readonly ask: Ask;
      readonly table: Pick<BucketTable, 'peekAt'>;
      readonly copies: Pick<Copies, 'createBatch'>;
      /** Whether a copy of the client for this node shows leases. */
      readonly showsLeases: (to: NodeId, client: Client) => boolean;
      /** Called for each client with leases after a node has acknowledged its copy. */
      readonly acknowledged: (clientId: string) => void;
      readonly timeoutMs: number;
    },
  ) {}

  /** @param whole true: with all that is known of the client; false: with the changes only */
  add(to: NodeId, client: Client, whole: boolean): void {
    this.targetOf(to).outgoing.add(client, whole);
  }

  /**
   * Sends each node one message of waiting copies, unless a message to it is under way or the node is down. The rest
   * follows when the node answers.
   */
  sendAll(to: (id: NodeId) => 'send' | 'keep' | 'drop'): void {
    for (const [id, target] of this.targets) {
      const what = to(id);
      if (what === 'send') this.send(id, target);
      else if (what === 'drop') this.targets.delete(id);
    }
  }

  /** Resolves when the nodes that are up have acknowledged all their copies. */
  async sent(): Promise<void> {
    for (const [id, target] of this.targets)
      while (target.outgoing.sending > 0 && !this.parts.membership.isDown(id)) await target.done;
  }

  /** Whether a copy of the client waits or is under way. */
  has(client: Client): boolean {
    for (const { outgoing } of this.targets.values()) if (outgoing.has(client)) return true;
    return false;
  }

  /**
   * Returns copies that the node has not acknowledged yet, as many as one message holds: first of clients that it owns.
   * `more` is whether it owns further ones.
   */
  unsent(to: NodeId, owns: (client: Client) => boolean): Unsent {
    const target = this.targets.get(to);
    const batch = this.parts.copies.createBatch();
    if (target === undefined) return { copies: batch, more: false };
    const others: Queued[] = [];
    const isFull = (): boolean => batch.bytes >= MAX_COPIES_BYTES || batch.clients >= CHUNK;
    for (const one of target.outgoing.unacknowledged()) {
      const client = this.clientAt(one.slot, one.generation);
      if (client === undefined) continue;
      if (!owns(client)) others.push(one);
      else if (isFull()) return { copies: batch, more: true };
      else batch.add(client, one.whole);
    }
    for (const { slot, generation, whole } of others) {
      if (isFull()) break;
      const client = this.clientAt(slot, generation);
      if (client !== undefined) batch.add(client, whole);
    }
    return { copies: batch, more: false };
  }

  /** Number of copies that wait for the counted nodes. */
  waiting(isCounted: (id: NodeId) => boolean): number {
    let waiting = 0;
    for (const [id, { outgoing }] of this.targets) if (isCounted(id)) waiting += outgoing.waiting;
    return waiting;
  }

  isEmpty(): boolean {
    for (const { outgoing } of this.targets.values()) if (!outgoing.isEmpty) return false;
    return true;
  }

  /** Ms since the oldest copy was queued that a node which is up has not acknowledged; 0: none. */
  lagMs(): number {
    const { clock, membership } = this.parts;
    let sinceMs = clock.nowMs();
    for (const [id, { outgoing, sinceMs: oldestMs }] of this.targets) {
      if (!outgoing.isEmpty && !membership.isDown(id)) sinceMs = Math.min(sinceMs, oldestMs);
    }
    return clock.nowMs() - sinceMs;
  }

  private targetOf(to: NodeId): Target {
    const { clock } = this.parts;
    let target = this.targets.get(to);
    if (target === undefined) {
      target = { outgoing: new Outgoing(), done: Promise.resolve(), sinceMs: clock.nowMs() };
      this.targets.set(to, target);
    }
    if (target.outgoing.isEmpty) target.sinceMs = clock.nowMs();
    return target;
  }

  /** Returns the client that was queued, if the table still holds it. */
  private clientAt(slot: number, generation: number): Client | undefined {
    const client = this.parts.table.peekAt(slot);
    return client?.generation === generation ? client : undefined;
  }

  /**
   * Copies as many waiting clients into the message as it holds, at least one.
   * @param lent gets the clients whose copies show leases
   */
  private pack(to: NodeId, { outgoing }: Target, lent: string[]): Uint8Array {
    const { copies, showsLeases } = this.parts;
    const batch = copies.createBatch();
    let packed = 0;
    outgoing.send((slot, generation, whole) => {
      const client = this.clientAt(slot, generation);
      if (client !== undefined) {
        const withLeases = showsLeases(to, client);
        batch.add(client, whole, withLeases);
        if (withLeases && hasLeases(client)) lent.push(client.id);
      }
      packed += 1;
      // One client takes at most some hundred KB, so a peer accepts the message even with the last client.
      return packed < CHUNK && batch.bytes <= MAX_COPIES_BYTES;
    });
    return batch.take();
  }

  private send(to: NodeId, target: Target): void {
    const { membership, clock, ask, timeoutMs, acknowledged } = this.parts;
    const { outgoing } = target;
    if (outgoing.sending > 0 || outgoing.isEmpty || membership.isDown(to)) return;
    const lent: string[] = [];
    const clients = this.pack(to, target, lent);
    const sentAtMs = clock.nowMs();
    target.done = ask(to, { kind: 'replicate', clients }, timeoutMs).then((asked) => {
      const kept = asked.kind === 'answer' && asked.body.kind === 'kept';
      outgoing.sent(kept);
      // Clients that were not acknowledged go again at the next interval, with their state at that time.
      if (!kept) return;
      target.sinceMs = sentAtMs;
      this.send(to, target);
      for (const clientId of lent) acknowledged(clientId);
    });
  }
}

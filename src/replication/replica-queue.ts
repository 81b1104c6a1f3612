import { BatchingQueue, type Batch } from '../lib/batching-queue.js';
import type { Clock, Timers } from '../lib/system.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Ask } from '../protocol/messages.js';
import type { Client } from '../state/bucket-table.js';
import { MAX_COPIES_BYTES, type Copies } from '../state/copies.js';

/** Messages under way to one member. Clients that are added meanwhile go in the next message. */
const MAX_IN_FLIGHT = 2;
/** Copies in one batch, those of one client counted as often as they are wanted. */
const MAX_BATCH = 1_000;

interface WantedCopy {
  readonly clientId: string;
  readonly sinceMs: number;
  readonly settle: (isAcked: boolean) => void;
}

/** Sends copies whose sender waits for the answer. Copies that one turn of the event loop asks for go together. */
export class ReplicaQueue {
  private readonly queue: BatchingQueue<WantedCopy>;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly copies: Pick<Copies, 'table' | 'createBatch'>;
      readonly ask: Ask;
      /** Whether a copy of the client for this node shows leases. */
      readonly showsLeases: (to: NodeId, client: Client) => boolean;
      /** How long a copy may wait for its turn and its acknowledgement together. */
      readonly timeoutMs: number;
    },
  ) {
    const { clock, timers } = parts;
    this.queue = new BatchingQueue({
      clock,
      timers,
      send: (batch) => void this.sendBatch(batch),
      maxInFlight: MAX_IN_FLIGHT,
      maxItems: MAX_BATCH,
      isOver: (wanted) => this.isOver(wanted),
    });
  }

  /**
   * Sends a member a copy of a client, with its state as of now or later.
   * @returns whether the member has acknowledged the copy; settles within `timeoutMs`
   */
  send(to: NodeId, clientId: string): Promise<boolean> {
    const sinceMs = this.parts.clock.nowMs();
    return new Promise((settle) => this.queue.add(to, { clientId, sinceMs, settle }));
  }

  private isOver({ sinceMs, settle }: WantedCopy): boolean {
    if (this.parts.clock.nowMs() - sinceMs < this.parts.timeoutMs) return false;
    settle(false);
    return true;
  }

  private async sendBatch(batch: Batch<WantedCopy>): Promise<void> {
    const clientIds = new Set(batch.items.map(({ clientId }) => clientId));
    const untilMs = batch.items[0]!.sinceMs + this.parts.timeoutMs;
    const isAcked = await this.sendCopies(batch.to, clientIds, untilMs);
    for (const { settle } of batch.items) settle(isAcked);
    this.queue.end(batch);
  }

  /** @returns whether the member has acknowledged the copies of all these clients */
  private async sendCopies(to: NodeId, clientIds: ReadonlySet<string>, untilMs: number): Promise<boolean> {
    const { clock, copies, ask, showsLeases } = this.parts;
    const messages: Uint8Array[] = [];
    const batch = copies.createBatch();
    for (const clientId of clientIds) {
      const client = copies.table.peek(clientId);
      if (client !== undefined) batch.add(client, false, showsLeases(to, client));
      if (batch.bytes >= MAX_COPIES_BYTES) messages.push(batch.take());
    }
    // A message goes out even if nothing is left to copy. Its answer says whether this node may still decide.
    if (batch.clients > 0 || messages.length === 0) messages.push(batch.take());
    for (const clients of messages) {
      const asked = await ask(to, { kind: 'replicate', clients }, Math.max(1, untilMs - clock.nowMs()));
      if (asked.kind !== 'answer' || asked.body.kind !== 'kept') return false;
    }
    return true;
  }
}

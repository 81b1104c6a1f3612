import { MARK, type BucketTable, type Client } from '../../state/bucket-table.js';
import type { Clock, Log } from '../../lib/system.js';

/** Removals that may wait; above this bound the oldest are dropped. */
const MAX_FORGOTTEN = 10_000;

interface Batch {
  readonly clientIds: readonly string[];
  /** Ids of clients to be removed from the store. */
  readonly forgotten: readonly string[];
}

const EMPTY: Batch = { clientIds: [], forgotten: [] };

/**
 * The clients that changed and are not in the store yet, oldest change first.
 * A round takes the clients that wait when it begins, batch by batch. Later changes wait for the next round.
 */
export class UnwrittenClients {
  /** Slots of clients that are marked as unwritten. */
  private waiting: number[] = [];
  private forgotten: string[] = [];
  private batch = EMPTY;
  /** Clients of this round that could not be written. */
  private left: string[] = [];
  /** Clients at the head of `waiting` that belong to this round. */
  private roundSize = 0;
  private roundAtMs = 0;
  private oldestAtMs = 0;
  private isOverflowed = false;

  constructor(
    private readonly deps: { readonly clock: Clock; readonly table: BucketTable; readonly log: Log },
    private readonly options: { readonly maxWaiting: number },
  ) {}

  /** Clients that wait or are in the current batch. */
  size(): number {
    return this.waiting.length + this.batch.clientIds.length + this.left.length;
  }

  /** Ms since the oldest change that is not in the store; 0: none. */
  lagMs(): number {
    return this.size() > 0 || this.isOverflowed ? this.deps.clock.nowMs() - this.oldestAtMs : 0;
  }

  /** Whether more clients changed than may wait. Then none is kept, and the whole table must be written. */
  overflowed(): boolean {
    return this.isOverflowed;
  }

  isEmpty(): boolean {
    return this.waiting.length === 0 && this.forgotten.length === 0 && !this.isOverflowed;
  }

  add(client: Client): void {
    if (this.isOverflowed || !this.deps.table.mark(client.slot, MARK.unwritten)) return;
    if (this.size() === 0) this.oldestAtMs = this.deps.clock.nowMs();
    this.waiting.push(client.slot);
    if (this.waiting.length > this.options.maxWaiting) this.overflow();
  }

  /** Notes that a client is to be removed from the store. */
  forget(clientId: string): void {
    this.forgotten.push(clientId);
    if (this.forgotten.length > MAX_FORGOTTEN) this.forgotten.shift();
  }

  beginRound(): void {
    this.roundSize = this.waiting.length;
    this.roundAtMs = this.deps.clock.nowMs();
  }

  /** @returns the next batch, which may be empty, of at most `max` clients */
  takeBatch(max: number): Batch {
    const count = Math.min(max, this.roundSize);
    // Another client may have the slot by now; then the mark is not set, or the client waits itself.
    const slots = this.waiting.slice(0, count).filter((slot) => this.deps.table.unmark(slot, MARK.unwritten));
    this.batch = { clientIds: slots.map((slot) => this.deps.table.peekAt(slot)!.id), forgotten: this.forgotten };
    this.waiting = this.waiting.slice(count);
    this.roundSize -= count;
    this.forgotten = [];
    return this.batch;
  }

  /** The store has written the batch, except `left`. @returns whether the round goes on */
  completeBatch(leftIds: readonly string[]): boolean {
    const ids = new Set(leftIds);
    this.left.push(...this.batch.clientIds.filter((id) => ids.has(id)));
    this.forgotten.push(...this.batch.forgotten.filter((id) => ids.has(id)));
    this.batch = EMPTY;
    return this.roundSize > 0;
  }

  /** The store has failed: everything of this round that is not written waits again. */
  failRound(): void {
    this.forgotten = [...this.batch.forgotten, ...this.forgotten];
    this.putBack([...this.left, ...this.batch.clientIds]);
    this.batch = EMPTY;
    this.left = [];
  }

  /** Clients that other nodes kept this one from writing wait for the next round. */
  endRound(): void {
    // Clients that changed during the round have waited since its beginning at most.
    if (this.left.length === 0) this.oldestAtMs = this.roundAtMs;
    else this.putBack(this.left);
    this.left = [];
  }

  /** The whole table is going to be written. */
  clearOverflow(): void {
    this.isOverflowed = false;
  }

  private overflow(): void {
    for (const slot of this.waiting) this.deps.table.unmark(slot, MARK.unwritten);
    this.waiting = [];
    this.roundSize = 0;
    this.isOverflowed = true;
    this.deps.log.warn(
      { waiting: this.options.maxWaiting },
      'too many changes wait for the store; writing the whole table once it is back',
    );
  }

  /** Puts clients at the head of the queue, unless they have changed again since. */
  private putBack(clientIds: readonly string[]): void {
    if (this.isOverflowed) return;
    const slots = clientIds.map((id) => this.deps.table.peek(id)?.slot ?? -1);
    this.waiting = [...slots.filter((slot) => this.deps.table.mark(slot, MARK.unwritten)), ...this.waiting];
  }
}

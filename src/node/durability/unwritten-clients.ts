import { MARK } from '../../state/bucket-table.js';
import type { BucketTable, Client } from '../../state/bucket-table.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';

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
export interface UnwrittenClients {
  /** Clients that wait or are in the current batch. */
  size(): number;
  /** Ms since the oldest change that is not in the store; 0: none. */
  lagMs(): number;
  /** Whether more clients changed than may wait. Then none is kept, and the whole table must be written. */
  overflowed(): boolean;
  isEmpty(): boolean;
  add(client: Client): void;
  /** Notes that a client is to be removed from the store. */
  forget(clientId: string): void;
  beginRound(): void;
  /** @returns the next batch, which may be empty, of at most `max` clients */
  takeBatch(max: number): Batch;
  /** The store has written the batch, except `left`. @returns whether the round goes on */
  completeBatch(left: readonly string[]): boolean;
  /** The store has failed: everything of this round that is not written waits again. */
  failRound(): void;
  /** Clients that other nodes kept this one from writing wait for the next round. */
  endRound(): void;
  /** The whole table is going to be written. */
  clearOverflow(): void;
}

export function createUnwrittenClients(
  { clock, table, log }: { readonly clock: Clock; readonly table: BucketTable; readonly log: Log },
  { maxWaiting }: { readonly maxWaiting: number },
): UnwrittenClients {
  /** Slots of clients that are marked as unwritten. */
  let waiting: number[] = [];
  let forgotten: string[] = [];
  let batch = EMPTY;
  /** Clients of this round that could not be written. */
  let left: string[] = [];
  /** Clients at the head of `waiting` that belong to this round. */
  let roundSize = 0;
  let roundAtMs = 0;
  let oldestAtMs = 0;
  let overflowed = false;

  const size = (): number => waiting.length + batch.clientIds.length + left.length;

  function overflow(): void {
    for (const slot of waiting) table.unmark(slot, MARK.unwritten);
    waiting = [];
    roundSize = 0;
    overflowed = true;
    log.warn({ waiting: maxWaiting }, 'too many changes wait for the store; writing the whole table once it is back');
  }

  /** Puts clients at the head of the queue, unless they have changed again since. */
  function putBack(clientIds: readonly string[]): void {
    if (overflowed) return;
    const slots = clientIds.map((id) => table.peek(id)?.slot ?? -1);
    waiting = [...slots.filter((slot) => table.mark(slot, MARK.unwritten)), ...waiting];
  }

  return {
    size,
    lagMs: () => (size() > 0 || overflowed ? clock.nowMs() - oldestAtMs : 0),
    overflowed: () => overflowed,
    isEmpty: () => waiting.length === 0 && forgotten.length === 0 && !overflowed,
    add(client) {
      if (overflowed || !table.mark(client.slot, MARK.unwritten)) return;
      if (size() === 0) oldestAtMs = clock.nowMs();
      waiting.push(client.slot);
      if (waiting.length > maxWaiting) overflow();
    },
    forget(clientId) {
      forgotten.push(clientId);
      if (forgotten.length > MAX_FORGOTTEN) forgotten.shift();
    },
    beginRound() {
      roundSize = waiting.length;
      roundAtMs = clock.nowMs();
    },
    takeBatch(max) {
      const count = Math.min(max, roundSize);
      // Another client may have the slot by now; then the mark is not set, or the client waits itself.
      const slots = waiting.slice(0, count).filter((slot) => table.unmark(slot, MARK.unwritten));
      batch = { clientIds: slots.map((slot) => table.peekAt(slot)!.id), forgotten };
      waiting = waiting.slice(count);
      roundSize -= count;
      forgotten = [];
      return batch;
    },
    completeBatch(leftIds) {
      const ids = new Set(leftIds);
      left.push(...batch.clientIds.filter((id) => ids.has(id)));
      forgotten.push(...batch.forgotten.filter((id) => ids.has(id)));
      batch = EMPTY;
      return roundSize > 0;
    },
    failRound() {
      forgotten = [...batch.forgotten, ...forgotten];
      putBack([...left, ...batch.clientIds]);
      batch = EMPTY;
      left = [];
    },
    endRound() {
      // Clients that changed during the round have waited since its beginning at most.
      if (left.length === 0) oldestAtMs = roundAtMs;
      else putBack(left);
      left = [];
    },
    clearOverflow() {
      overflowed = false;
    },
  };
}

import type { Client } from '../state/bucket-table.js';
import type { Clock, Log } from '../ports.js';

/** Removals that may wait; above this bound the oldest are dropped. */
const MAX_FORGOTTEN = 10_000;

interface Batch {
  readonly clients: readonly Client[];
  /** Ids of clients to be removed from the store. */
  readonly forgotten: readonly string[];
}

const EMPTY: Batch = { clients: [], forgotten: [] };

/**
 * The clients that changed and are not in the store yet, oldest change first.
 * A round takes the clients that wait when it begins, batch by batch. Later changes wait for the next round.
 */
export interface UnwrittenClients {
  /** Clients that wait or are in the current batch. */
  readonly size: number;
  /** Ms since the oldest change that is not in the store; 0: none. */
  readonly lagMs: number;
  /** Whether more clients changed than may wait. Then none is kept, and the whole table must be written. */
  readonly overflowed: boolean;
  readonly isEmpty: boolean;
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
  /** What other nodes kept this one from writing waits for the next round. */
  endRound(): void;
  /** The whole table is going to be written. */
  clearOverflow(): void;
}

export function createUnwrittenClients(
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  { maxWaiting }: { readonly maxWaiting: number },
): UnwrittenClients {
  let waiting: Client[] = [];
  let forgotten: string[] = [];
  let batch = EMPTY;
  /** Clients of this round that could not be written. */
  let left: Client[] = [];
  /** Clients at the head of `waiting` that belong to this round. */
  let roundSize = 0;
  let roundAtMs = 0;
  let oldestAtMs = 0;
  let overflowed = false;

  const size = (): number => waiting.length + batch.clients.length + left.length;

  function overflow(): void {
    for (const client of waiting) client.unwritten = false;
    waiting = [];
    roundSize = 0;
    overflowed = true;
    log.warn({ waiting: maxWaiting }, 'too many changes wait for the store; writing the whole table once it is back');
  }

  /** Puts clients at the head of the queue, unless they have changed again since. */
  function putBack(clients: readonly Client[]): void {
    if (overflowed) return;
    const again = clients.filter(({ unwritten }) => !unwritten);
    for (const client of again) client.unwritten = true;
    waiting = [...again, ...waiting];
  }

  return {
    get size() {
      return size();
    },
    get lagMs() {
      return size() > 0 || overflowed ? clock.nowMs() - oldestAtMs : 0;
    },
    get overflowed() {
      return overflowed;
    },
    get isEmpty() {
      return waiting.length === 0 && forgotten.length === 0 && !overflowed;
    },
    add(client) {
      if (client.unwritten || overflowed) return;
      if (waiting.length >= maxWaiting) return overflow();
      if (size() === 0) oldestAtMs = clock.nowMs();
      client.unwritten = true;
      waiting.push(client);
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
      batch = { clients: waiting.slice(0, count), forgotten };
      waiting = waiting.slice(count);
      roundSize -= count;
      forgotten = [];
      for (const client of batch.clients) client.unwritten = false;
      return batch;
    },
    completeBatch(leftIds) {
      const ids = new Set(leftIds);
      left.push(...batch.clients.filter(({ id }) => ids.has(id)));
      forgotten.push(...batch.forgotten.filter((id) => ids.has(id)));
      batch = EMPTY;
      return roundSize > 0;
    },
    failRound() {
      forgotten = [...batch.forgotten, ...forgotten];
      putBack([...left, ...batch.clients]);
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

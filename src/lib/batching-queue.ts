import type { Clock, Timers } from './system.js';

/** Items that are under way to one destination. */
export interface Batch<Item> {
  readonly to: string;
  readonly items: readonly Item[];
  readonly sentAtMs: number;
  /** Whether it is full, so that further items waited when it was sent. */
  readonly isFull: boolean;
  /** Whether its items have been sent a second time, here or elsewhere. Set by `overdue`, or by the user. */
  sentTwice: boolean;
}

/** What waits for one destination, and what is under way there. */
interface Destination<Item> {
  readonly to: string;
  waiting: Item[];
  inFlight: Batch<Item>[];
  sendsSoon: boolean;
}

/**
 * Collects items for each destination, and sends them in batches. A batch goes out once all input that has arrived by
 * now is read, so an idle destination is asked at once. When `maxInFlight` batches are under way, later items go in the
 * next one, so a busy destination is asked in bulk.
 *
 * The queue never drops an item that it has accepted. A failed batch ends like any other: its user has the items, and
 * decides whether to complete them, or to add them again, perhaps for another destination.
 *
 * The SDK sends its questions by it. A node sends forwards, copies that a decision waits for, and requests for leases.
 * The replicator's outbox is another thing: it sends each client once in an interval, as it is by then.
 */
export class BatchingQueue<Item> {
  private readonly byName = new Map<string, Destination<Item>>();
  private readonly clock: Pick<Clock, 'nowMs'>;
  private readonly timers: Pick<Timers, 'soon'>;
  private readonly send: (batch: Batch<Item>) => void;
  private readonly maxInFlight: number;
  private readonly maxItems: number;
  private readonly maxSize: number;
  private readonly sizeOf: (item: Item) => number;
  private readonly maxWaiting: number;
  private readonly coalesces: boolean;
  private readonly isOver: (item: Item) => boolean;

  /**
   * @param options.send sends a batch. It calls `end` once the batch has ended, perhaps before it returns. Never throws.
   * @param options.maxInFlight bound of batches under way to one destination
   * @param options.maxItems bound of the items in one batch
   * @param options.maxSize bound of the sum of their sizes; an item that is larger goes alone
   * @param options.maxWaiting bound of the items that wait for one destination; those under way do not count
   * @param options.coalesces whether a further batch goes only if it is at least as large as each one under way that is
   *   neither full nor sent twice. Otherwise the items of a busy sender split into many small batches.
   * @param options.isOver tells, when its turn comes, that an item needs no sending any more. It leaves the queue.
   */
  constructor(options: {
    clock: Pick<Clock, 'nowMs'>;
    timers: Pick<Timers, 'soon'>;
    send: (batch: Batch<Item>) => void;
    maxInFlight?: number;
    maxItems?: number;
    maxSize?: number;
    sizeOf?: (item: Item) => number;
    maxWaiting?: number;
    coalesces?: boolean;
    isOver?: (item: Item) => boolean;
  }) {
    this.clock = options.clock;
    this.timers = options.timers;
    this.send = options.send;
    this.maxInFlight = options.maxInFlight ?? Infinity;
    this.maxItems = options.maxItems ?? Infinity;
    this.maxSize = options.maxSize ?? Infinity;
    this.sizeOf = options.sizeOf ?? (() => 0);
    this.maxWaiting = options.maxWaiting ?? Infinity;
    this.coalesces = options.coalesces ?? false;
    this.isOver = options.isOver ?? (() => false);
  }

  /** Adds an item that goes out soon. @returns false if too many wait; the item is then not added */
  add(to: string, item: Item): boolean {
    const destination = this.destinationOf(to);
    if (destination.waiting.length >= this.maxWaiting) return false;
    destination.waiting.push(item);
    if (destination.sendsSoon) return true;
    destination.sendsSoon = true;
    this.timers.soon(() => {
      destination.sendsSoon = false;
      this.dispatch(destination);
    });
    return true;
  }

  /** Adds an item that goes out with the next one that is added, or after `flush`. */
  addLazily(to: string, item: Item): void {
    this.destinationOf(to).waiting.push(item);
  }

  /** Sends what waits for this destination without waiting for further input, as far as the bounds allow. */
  flush(to: string): void {
    const destination = this.byName.get(to);
    if (destination !== undefined) this.dispatch(destination);
  }

  /** Ends a batch, so that the next one may go out. @returns false if it had ended before */
  end(batch: Batch<Item>): boolean {
    const destination = this.byName.get(batch.to);
    if (destination?.inFlight.includes(batch) !== true) return false;
    destination.inFlight = destination.inFlight.filter((one) => one !== batch);
    this.dispatch(destination);
    return true;
  }

  /** Yields each batch that is under way for this long, once, to be sent a second time. Another one may go out then. */
  *overdue(afterMs: number): Generator<Batch<Item>, void, undefined> {
    const nowMs = this.clock.nowMs();
    for (const destination of this.byName.values()) {
      for (const batch of destination.inFlight) {
        if (batch.sentTwice || nowMs - batch.sentAtMs < afterMs) continue;
        batch.sentTwice = true;
        yield batch;
        this.dispatch(destination);
      }
    }
  }

  /** The batches under way to a destination. The caller may end them while it reads the list. */
  inFlightTo(to: string): readonly Batch<Item>[] {
    return this.byName.get(to)?.inFlight ?? [];
  }

  /** Yields the destinations to which items are under way, or for which they wait. */
  destinations(): IterableIterator<string> {
    return this.byName.keys();
  }

  waitingFor(to: string): readonly Item[] {
    return this.byName.get(to)?.waiting ?? [];
  }

  /** Removes the waiting items for which the test holds, and returns them. */
  withdraw(to: string, test: (item: Item) => boolean = () => true): Item[] {
    const destination = this.byName.get(to);
    if (destination === undefined) return [];
    const withdrawn: Item[] = [];
    const left: Item[] = [];
    for (const item of destination.waiting) (test(item) ? withdrawn : left).push(item);
    if (withdrawn.length > 0) destination.waiting = left;
    this.dropIfEmpty(destination);
    return withdrawn;
  }

  /** Number of items that wait or are under way. */
  size(): number {
    let size = 0;
    for (const { waiting, inFlight } of this.byName.values())
      size += inFlight.reduce((sum, { items }) => sum + items.length, waiting.length);
    return size;
  }

  /** Empties the queue. @returns all items that waited or were under way */
  clear(): Item[] {
    const all: Item[] = [];
    for (const destination of this.byName.values()) {
      for (const { items } of destination.inFlight) all.push(...items);
      all.push(...destination.waiting);
      // What is to happen soon finds nothing to send.
      destination.waiting = [];
    }
    this.byName.clear();
    return all;
  }

  private destinationOf(to: string): Destination<Item> {
    let destination = this.byName.get(to);
    if (destination === undefined)
      this.byName.set(to, (destination = { to, waiting: [], inFlight: [], sendsSoon: false }));
    return destination;
  }

  private dispatch(destination: Destination<Item>): void {
    while (this.maySend(destination)) {
      const items = this.take(destination);
      if (items.length === 0) continue;
      const { to, waiting } = destination;
      const sentAtMs = this.clock.nowMs();
      const batch: Batch<Item> = { to, items, sentAtMs, isFull: waiting.length > 0, sentTwice: false };
      destination.inFlight.push(batch);
      this.send(batch);
    }
    this.dropIfEmpty(destination);
  }

  private maySend({ waiting, inFlight }: Destination<Item>): boolean {
    if (waiting.length === 0 || inFlight.length >= this.maxInFlight) return false;
    return (
      !this.coalesces ||
      inFlight.every(({ items, isFull, sentTwice }) => isFull || sentTwice || items.length <= waiting.length)
    );
  }

  /** Takes as many items as one batch may hold. */
  private take(destination: Destination<Item>): Item[] {
    const { waiting } = destination;
    const items: Item[] = [];
    let size = 0;
    let taken = 0;
    for (const item of waiting) {
      if (!this.isOver(item)) {
        size += this.sizeOf(item);
        if (items.length === this.maxItems || (size > this.maxSize && items.length > 0)) break;
        items.push(item);
      }
      taken += 1;
    }
    destination.waiting = taken === waiting.length ? [] : waiting.slice(taken);
    return items;
  }

  private dropIfEmpty(destination: Destination<Item>): void {
    const isEmpty = destination.waiting.length === 0 && destination.inFlight.length === 0;
    if (isEmpty && this.byName.get(destination.to) === destination) this.byName.delete(destination.to);
  }
}

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
  private readonly lanes = new Map<string, Destination<Item>>();
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
    const lane = this.laneOf(to);
    if (lane.waiting.length >= this.maxWaiting) return false;
    lane.waiting.push(item);
    if (lane.sendsSoon) return true;
    lane.sendsSoon = true;
    this.timers.soon(() => {
      lane.sendsSoon = false;
      this.dispatch(lane);
    });
    return true;
  }

  /** Adds an item that goes out with the next one that is added, or after `flush`. */
  addLazily(to: string, item: Item): void {
    this.laneOf(to).waiting.push(item);
  }

  /** Sends what waits for this destination without waiting for further input, as far as the bounds allow. */
  flush(to: string): void {
    const lane = this.lanes.get(to);
    if (lane !== undefined) this.dispatch(lane);
  }

  /** Ends a batch, so that the next one may go out. @returns false if it had ended before */
  end(batch: Batch<Item>): boolean {
    const lane = this.lanes.get(batch.to);
    if (lane?.inFlight.includes(batch) !== true) return false;
    lane.inFlight = lane.inFlight.filter((one) => one !== batch);
    this.dispatch(lane);
    return true;
  }

  /** Yields each batch that is under way for this long, once, to be sent a second time. Another one may go out then. */
  *overdue(afterMs: number): Generator<Batch<Item>, void, undefined> {
    const nowMs = this.clock.nowMs();
    for (const lane of this.lanes.values()) {
      for (const batch of lane.inFlight) {
        if (batch.sentTwice || nowMs - batch.sentAtMs < afterMs) continue;
        batch.sentTwice = true;
        yield batch;
        this.dispatch(lane);
      }
    }
  }

  /** The batches under way to a destination. The caller may end them while it reads the list. */
  inFlightTo(to: string): readonly Batch<Item>[] {
    return this.lanes.get(to)?.inFlight ?? [];
  }

  /** Yields the destinations to which items are under way, or for which they wait. */
  destinations(): IterableIterator<string> {
    return this.lanes.keys();
  }

  waitingFor(to: string): readonly Item[] {
    return this.lanes.get(to)?.waiting ?? [];
  }

  /** Removes the waiting items for which the test holds, and returns them. */
  withdraw(to: string, test: (item: Item) => boolean = () => true): Item[] {
    const lane = this.lanes.get(to);
    if (lane === undefined) return [];
    const withdrawn: Item[] = [];
    const left: Item[] = [];
    for (const item of lane.waiting) (test(item) ? withdrawn : left).push(item);
    if (withdrawn.length > 0) lane.waiting = left;
    this.dropIfEmpty(lane);
    return withdrawn;
  }

  /** Number of items that wait or are under way. */
  size(): number {
    let size = 0;
    for (const { waiting, inFlight } of this.lanes.values())
      size += inFlight.reduce((sum, { items }) => sum + items.length, waiting.length);
    return size;
  }

  /** Empties the queue. @returns all items that waited or were under way */
  clear(): Item[] {
    const all: Item[] = [];
    for (const lane of this.lanes.values()) {
      for (const { items } of lane.inFlight) all.push(...items);
      all.push(...lane.waiting);
      // What is to happen soon finds nothing to send.
      lane.waiting = [];
    }
    this.lanes.clear();
    return all;
  }

  private laneOf(to: string): Destination<Item> {
    let lane = this.lanes.get(to);
    if (lane === undefined) this.lanes.set(to, (lane = { to, waiting: [], inFlight: [], sendsSoon: false }));
    return lane;
  }

  private dispatch(lane: Destination<Item>): void {
    while (this.maySend(lane)) {
      const items = this.take(lane);
      if (items.length === 0) continue;
      const { to, waiting } = lane;
      const sentAtMs = this.clock.nowMs();
      const batch: Batch<Item> = { to, items, sentAtMs, isFull: waiting.length > 0, sentTwice: false };
      lane.inFlight.push(batch);
      this.send(batch);
    }
    this.dropIfEmpty(lane);
  }

  private maySend({ waiting, inFlight }: Destination<Item>): boolean {
    if (waiting.length === 0 || inFlight.length >= this.maxInFlight) return false;
    return (
      !this.coalesces ||
      inFlight.every(({ items, isFull, sentTwice }) => isFull || sentTwice || items.length <= waiting.length)
    );
  }

  /** Takes as many items as one batch may hold. */
  private take(lane: Destination<Item>): Item[] {
    const { waiting } = lane;
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
    lane.waiting = taken === waiting.length ? [] : waiting.slice(taken);
    return items;
  }

  private dropIfEmpty(lane: Destination<Item>): void {
    const isEmpty = lane.waiting.length === 0 && lane.inFlight.length === 0;
    if (isEmpty && this.lanes.get(lane.to) === lane) this.lanes.delete(lane.to);
  }
}

interface Event {
  readonly atMs: number;
  /** Equal times run in the order they were added. */
  readonly order: number;
  readonly action: () => void;
}

/** Virtual time: a heap of what is to happen. */
export interface EventQueue {
  readonly nowMs: number;
  /** Events run so far. */
  readonly ran: number;
  add(inMs: number, action: () => void): void;
  /** Runs all events up to a time, each to the end of what it starts, and leaves the clock there. */
  runUntil(untilMs: number): Promise<void>;
}

export function createEventQueue(): EventQueue {
  const heap: Event[] = [];
  let nowMs = 0;
  let added = 0;
  let ran = 0;

  const before = (a: Event, b: Event): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

  function push(event: Event): void {
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = event;
  }

  function pop(): Event {
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return top;
  }

  return {
    get nowMs() {
      return nowMs;
    },
    get ran() {
      return ran;
    },
    add: (inMs, action) => push({ atMs: nowMs + inMs, order: (added += 1), action }),
    async runUntil(untilMs) {
      // Whoever calls may not be a promise itself: then a tick would come before the promises.
      await Promise.resolve();
      await settled();
      while (heap.length > 0 && heap[0]!.atMs <= untilMs) {
        const { atMs, action } = pop();
        nowMs = atMs;
        ran += 1;
        action();
        await settled();
      }
      nowMs = untilMs;
    },
  };
}

/**
 * Resolves when no promise has anything left to run: ticks run once the queue of promises is empty. A fifth of the price
 * of `setImmediate`, which would also go round the event loop; nothing in the simulation waits for that.
 */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

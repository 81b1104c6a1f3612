/**
 * Longest time in ms that this work takes in one turn of the event loop before messages of peers are read. With twice
 * as much, decisions take longer beside 200 connections that ask for pages, and the pages come no faster.
 */
const TURN_MS = 4;
/** Pieces of other work that wait at once. */
const MAX_WAITING = 1_000;

/** The kinds of work, by their order in a turn. */
const LANES = ['decision', 'health', 'other'] as const;
type Lane = (typeof LANES)[number];

/** @returns whether it is done; if not, it is called again, in this turn or a later one */
type Work = () => boolean;

interface TurnClock {
  nowMs(): number;
  /** Calls back after other requests had their turn, as `setImmediate` does. */
  defer(callback: () => void): void;
}

/**
 * Bounds the time that one turn of the event loop spends on batches, calls of gRPC, commands, and pages, for all
 * connections of all protocols together. Decisions go first, then health checks. Each lane gets at least one piece of
 * work done in each turn, so none of them stops. A connection has one piece of work at a time.
 */
export class Turns {
  private readonly waiting: Readonly<Record<Lane, Work[]>> = { decision: [], health: [], other: [] };
  /** End of the time in this turn; `undefined` before its first work. */
  private endsMs: number | undefined;

  constructor(
    private readonly clock: TurnClock,
    private readonly bounds = { turnMs: TURN_MS, maxWaiting: MAX_WAITING },
  ) {}

  /** Whether work may be done now: nothing waits, and this turn has time left. */
  hasTime(): boolean {
    for (const lane of LANES) if (this.waiting[lane].length > 0) return false;
    if (this.endsMs === undefined) this.begin();
    return this.clock.nowMs() < this.endsMs!;
  }

  /** Whether so much other work waits that more must be refused. A refusal takes time too, so it is `run` as well. */
  isFull(): boolean {
    return this.waiting.other.length >= this.bounds.maxWaiting;
  }

  /** Calls `work` now if there is time, otherwise in a later turn, in order. It never throws. */
  run(lane: Lane, work: () => void): void {
    if (this.hasTime()) work();
    else this.later(lane, work);
  }

  /** Calls `work` behind all that waits in its lane. It never throws. */
  later(lane: Lane, work: () => void): void {
    if (this.endsMs === undefined) this.begin();
    this.waiting[lane].push(() => {
      work();
      return true;
    });
  }

  /**
   * Calls `step` until it returns true: now while there is time, otherwise in later turns.
   * @returns `undefined` when it is done; otherwise a promise, which rejects with the error that `step` throws later
   * @throws the error that `step` throws now
   */
  runSteps(lane: Lane, step: Work): Promise<void> | undefined {
    while (this.hasTime()) if (step()) return undefined;
    return new Promise((resolve, reject) => {
      this.waiting[lane].push(() => {
        try {
          if (!step()) return false;
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error('a step of long work failed', { cause: error }));
        }
        return true;
      });
    });
  }

  private begin(): void {
    this.endsMs = this.clock.nowMs() + this.bounds.turnMs;
    this.clock.defer(() => this.next());
  }

  private next(): void {
    this.endsMs = undefined;
    if (LANES.every((lane) => this.waiting[lane].length === 0)) return;
    this.begin();
    for (const lane of LANES) {
      const waiting = this.waiting[lane];
      if (waiting.length > 0) this.take(lane);
      while (waiting.length > 0 && this.clock.nowMs() < this.endsMs!) this.take(lane);
    }
  }

  private take(lane: Lane): void {
    const waiting = this.waiting[lane];
    const work = waiting.shift()!;
    if (work()) return;
    // A batch ends before the next begins, so that answers come in the order of the requests. Other long work lets
    // short work go first.
    if (lane === 'decision') waiting.unshift(work);
    else waiting.push(work);
  }
}

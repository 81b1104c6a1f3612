import type { Timers } from './system.js';

/**
 * Long work in steps: each `yield` ends a step of at most a few ms, after which other work may have its turn.
 *
 * One piece of work runs by `finish` at once, or by `inTurns` one step in each turn of the event loop. Work of many
 * callers goes through `Turns`, which shares out each turn among them. Only a walk of the table, `TableWalk`, is another
 * thing: it goes at a pace, as it fills the queues of other nodes and of the store.
 */
export type Steps<T> = Generator<undefined, T, undefined>;

/** Runs all steps at once. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Runs one step in each turn of the event loop. Work of one step ends in the current turn. */
export async function inTurns<T>(steps: Steps<T>, timers: Pick<Timers, 'soon'>): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    await new Promise<void>((resolve) => timers.soon(resolve));
  }
}

/** The kinds of work, by their order in a turn. */
const LANES = ['decision', 'health', 'other'] as const;
type Lane = (typeof LANES)[number];

/** @returns whether it is done; if not, it is called again, in this turn or a later one */
type Work = () => boolean;

/**
 * Bounds what one turn of the event loop spends on the work of many callers together. Decisions go first, then health
 * checks. Each lane gets at least one step done in each turn, so none of them stops. A connection has one piece of work
 * at a time.
 */
export class Turns {
  private readonly waiting: Readonly<Record<Lane, Work[]>> = { decision: [], health: [], other: [] };
  /** What will have been spent at the end of this turn; `undefined` before its first work. */
  private endsAt: number | undefined;

  /**
   * @param parts.spent what all turns have spent until now, such as a clock in ms, or a count of checks
   * @param parts.perTurn bound of what one turn spends, in the unit of `spent`
   * @param parts.maxWaiting pieces of other work that wait at once, after which `isFull` says so; default: no bound
   */
  constructor(
    private readonly parts: {
      readonly timers: Pick<Timers, 'soon'>;
      readonly spent: () => number;
      readonly perTurn: number;
      readonly maxWaiting?: number;
    },
  ) {}

  /** Whether work may be done now: nothing waits, and this turn may still spend something. */
  mayWork(): boolean {
    for (const lane of LANES) if (this.waiting[lane].length > 0) return false;
    return this.left() > 0;
  }

  /** What this turn may still spend, in the unit of `spent`; 0 or less if nothing. */
  left(): number {
    if (this.endsAt === undefined) this.begin();
    return this.endsAt! - this.parts.spent();
  }

  /** Whether so much other work waits that more must be refused. A refusal takes time too, so it is `run` as well. */
  isFull(): boolean {
    return this.waiting.other.length >= (this.parts.maxWaiting ?? Infinity);
  }

  /** Calls `work` now if it may be done now, otherwise in a later turn, in order. It never throws. */
  run(lane: Lane, work: () => void): void {
    if (this.mayWork()) work();
    else this.later(lane, work);
  }

  /** Calls `work` behind all that waits in its lane. It never throws. */
  later(lane: Lane, work: () => void): void {
    if (this.endsAt === undefined) this.begin();
    this.waiting[lane].push(() => {
      work();
      return true;
    });
  }

  /**
   * Runs the steps: now while work may be done, otherwise in later turns.
   * @returns `undefined` when all are done; otherwise a promise, which rejects with the error that a step throws later
   * @throws the error that a step throws now
   */
  runSteps(lane: Lane, steps: Steps<void>): Promise<void> | undefined {
    while (this.mayWork()) if (steps.next().done) return undefined;
    return new Promise((resolve, reject) => {
      this.waiting[lane].push(() => {
        try {
          if (!steps.next().done) return false;
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error('a step of long work failed', { cause: error }));
        }
        return true;
      });
    });
  }

  private begin(): void {
    this.endsAt = this.parts.spent() + this.parts.perTurn;
    this.parts.timers.soon(() => this.next());
  }

  private next(): void {
    this.endsAt = undefined;
    if (LANES.every((lane) => this.waiting[lane].length === 0)) return;
    this.begin();
    for (const lane of LANES) {
      const waiting = this.waiting[lane];
      if (waiting.length > 0) this.take(lane);
      while (waiting.length > 0 && this.left() > 0) this.take(lane);
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

import { LRUCache } from 'lru-cache';
import { MAX_POLICIES } from './check-policy.js';

const MINUTE_MS = 60_000;
/** An hour, and the minute that has begun. */
const MINUTES = 61;

/** The requests under a policy in the last hour, to the minute. */
export interface Use {
  readonly asks: number;
  /** Time since the last of them; `undefined` if there was none. */
  readonly lastMs: number | undefined;
}

/** Counts the requests of callers of this node under each policy, since the start of the process. */
export class PolicyUse {
  /** The latest policies are kept: names that were deleted make way. */
  private readonly byName = new LRUCache<string, Count>({ max: MAX_POLICIES });

  constructor(private readonly clock: { nowMs(): number }) {}

  note(name: string): void {
    let count = this.byName.get(name);
    if (count === undefined) this.byName.set(name, (count = new Count()));
    count.note(this.clock.nowMs());
  }

  inLastHour(name: string): Use {
    return this.byName.get(name)?.at(this.clock.nowMs()) ?? UNUSED;
  }
}

/** Adds up what several nodes have counted. */
export function sumOfUses(uses: readonly Use[]): Use {
  const ages = uses.flatMap(({ lastMs }) => lastMs ?? []);
  return {
    asks: uses.reduce((sum, { asks }) => sum + asks, 0),
    lastMs: ages.length === 0 ? undefined : Math.min(...ages),
  };
}

const UNUSED: Use = { asks: 0, lastMs: undefined };

/** Counts by the minute, in a ring of slots. */
class Count {
  private readonly asks = new Uint32Array(MINUTES);
  private minute = 0;
  private notedAtMs = -Infinity;

  note(nowMs: number): void {
    this.advance(nowMs);
    this.asks[this.minute % MINUTES]! += 1;
    this.notedAtMs = nowMs;
  }

  at(nowMs: number): Use {
    this.advance(nowMs);
    const asks = this.asks.reduce((sum, one) => sum + one, 0);
    return asks === 0 ? UNUSED : { asks, lastMs: nowMs - this.notedAtMs };
  }

  /** Empties the slots of the minutes that have passed. */
  private advance(nowMs: number): void {
    const minute = Math.floor(nowMs / MINUTE_MS);
    if (minute === this.minute) return;
    const from = Math.max(this.minute + 1, minute - MINUTES + 1);
    for (let one = from; one <= minute; one += 1) this.asks[one % MINUTES] = 0;
    this.minute = minute;
  }
}

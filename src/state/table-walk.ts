import type { BucketTable, Client } from './bucket-table.js';
import type { Timers } from '../lib/system.js';

/** Clients that one step visits, and the time between steps. With these values, decisions keep their p99. */
const STEP = 500;
const INTERVAL_MS = 20;

/** Walks the whole table in steps, from the last place down. So it visits every client that was there when it began. */
export class TableWalk {
  private remaining = 0;
  private stop: (() => void) | undefined;

  constructor(
    private readonly deps: { readonly timers: Timers; readonly table: BucketTable },
    private readonly visitor: {
      readonly visit: (client: Client) => void;
      /** Whether the walk goes on now; if not, it goes on at a later step. */
      readonly mayGoOn: () => boolean;
      readonly done: () => void;
    },
  ) {}

  /** Starts the walk from the beginning. */
  start(): void {
    this.remaining = this.deps.table.size();
    // The timer runs only during a walk.
    this.stop ??= this.deps.timers.every(INTERVAL_MS, () => this.step());
  }

  /** Number of clients still to be visited. */
  left(): number {
    return this.remaining;
  }

  close(): void {
    this.stop?.();
  }

  private step(): void {
    for (let i = 0; i < STEP && this.remaining > 0 && this.visitor.mayGoOn(); i += 1) {
      const client = this.deps.table.at((this.remaining -= 1));
      if (client !== undefined) this.visitor.visit(client);
    }
    if (this.remaining > 0) return;
    this.stop?.();
    this.stop = undefined;
    this.visitor.done();
  }
}

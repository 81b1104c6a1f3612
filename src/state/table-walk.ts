import type { BucketTable, Client } from './bucket-table.js';
import type { Timers } from '../lib/clock.js';

/** Clients that one step visits, and the time between steps. With these values, decisions keep their p99. */
const STEP = 500;
const INTERVAL_MS = 20;

/** Walks the whole table in steps, from the last place down. So it visits every client that was there when it began. */
interface TableWalk {
  /** Starts the walk from the beginning. */
  start(): void;
  /** Number of clients still to be visited. */
  left(): number;
  close(): void;
}

export function createTableWalk(
  { timers, table }: { readonly timers: Timers; readonly table: BucketTable },
  visitor: {
    readonly visit: (client: Client) => void;
    /** Whether the walk goes on now; if not, it goes on at a later step. */
    readonly mayGoOn: () => boolean;
    readonly done: () => void;
  },
): TableWalk {
  let left = 0;
  let stop: (() => void) | undefined;

  function step(): void {
    for (let i = 0; i < STEP && left > 0 && visitor.mayGoOn(); i += 1) {
      const client = table.at((left -= 1));
      if (client !== undefined) visitor.visit(client);
    }
    if (left > 0) return;
    stop?.();
    stop = undefined;
    visitor.done();
  }

  return {
    start() {
      left = table.size();
      // The timer runs only during a walk.
      stop ??= timers.every(INTERVAL_MS, step);
    },
    left: () => left,
    close() {
      stop?.();
    },
  };
}

import type { BucketTable, Client } from './bucket-table.js';
import type { Timers } from '../ports.js';

/** Clients looked at per step, and the time between steps: decisions keep their p99. */
const STEP = 500;
const INTERVAL_MS = 20;

/** Looks through the whole table in steps, from the last place down, so that it meets every client that was there when it began. */
interface TableWalk {
  /** Begins anew. */
  start(): void;
  /** Clients that are still to be looked at. */
  readonly left: number;
  close(): void;
}

export function createTableWalk(
  { timers, table }: { readonly timers: Timers; readonly table: BucketTable },
  visitor: {
    readonly visit: (client: Client) => void;
    /** Whether to go on now, or at a later step. */
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
      left = table.size;
      // Only while there is something to do.
      stop ??= timers.every(INTERVAL_MS, step);
    },
    get left() {
      return left;
    },
    close() {
      stop?.();
    },
  };
}

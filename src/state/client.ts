import { Buckets } from '../limits/bucket/bucket.js';
import type { Verdict } from '../limits/decide/decide.js';
import type { Rule } from '../limits/bucket/rule.js';
import type { Debt } from '../limits/bucket/reservation.js';
import type { Snapshot } from '../limits/bucket/snapshot.js';

/** Marks of a client beside its buckets, as bits. All are cleared when the table drops the client. */
export const MARK = {
  /** This node decided for the client while another node owned it. The owner must learn what was consumed here. */
  actingOwner: 1,
  /** The client's buckets changed since they were last queued for the successors. */
  changed: 2,
  /** The client waits to be written to the store. */
  unwritten: 4,
} as const;

/** A client as the table shows it. It is owned, or a copy for another node, depending on the ring. */
export class Client extends Buckets {
  /** The client's number in the table, which does not change; −1: the table does not hold the client. */
  slot = -1;
  /** A number that differs from the generation of every client that had the slot before. */
  generation = 0;
  /**
   * Monotonic ms until which decisions on its request ids are remembered. Until then the table keeps even an idle
   * client.
   */
  remembersUntilMs = 0;
  hashHigh = 0;
  hashLow = 0;
  /** Whether there may be reservations, or decisions on request ids that are not those of batches. */
  hasStoredDecisions = false;
  /** The last decision on an item of a batch with a request id; see `batch-decisions.ts`. 0: none. */
  lastItem = 0;
  /** The client's marks when it was read from the table. */
  marks = 0;
  /** Whether the table keeps this object itself, because the buckets do not fit into a record. */
  isOnHeap = false;
  /** The bytes on the heap of a kept object when it was last written, and its place among the kept ones. */
  spilledBytes = 0;
  spilledIndex = 0;
  /** The id, if it is known already. */
  text: string | undefined = undefined;

  /** @param readId reads the id of a client that the table holds */
  constructor(private readonly readId: (slot: number) => string) {
    super();
  }

  get id(): string {
    return (this.text ??= this.readId(this.slot));
  }

  get isChanged(): boolean {
    return (this.marks & MARK.changed) !== 0;
  }

  get decidedAsActingOwner(): boolean {
    return (this.marks & MARK.actingOwner) !== 0;
  }
}

/** The key of something that a client has by an id. The length keeps ("a", "bc") and ("ab", "c") apart. */
export function clientEntryKey(clientId: string, id: string): string {
  return `${clientId.length}:${clientId}${id}`;
}

/** A decision on a request id, for nodes that may receive the same id again. */
export interface RecentSnapshot {
  readonly requestId: string;
  readonly ageMs: number;
  readonly verdict: Verdict;
  readonly degraded: boolean;
}

/** A reserved cost; see `limits/bucket/reservation.ts`. */
export interface ReservationSnapshot {
  readonly id: string;
  readonly cost: number;
  readonly rules: readonly Rule[];
  readonly ageMs: number;
  readonly least: readonly Debt[];
  readonly settled: number | undefined;
}

/** All that a node tells of a client, as an object; see `client-format.ts`. Most clients have neither request ids nor reservations. */
export type ClientSnapshot = readonly [
  clientId: string,
  buckets: readonly Snapshot[],
  recent?: readonly RecentSnapshot[],
  reservations?: readonly ReservationSnapshot[],
];

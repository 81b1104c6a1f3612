import { Buckets } from '../../core/bucket.js';

/** What is noted of a client beside its buckets, as bits; all are cleared when the table drops the client. */
export const MARK = {
  /** This node decided for the client while another node owned it; the owner must learn what was consumed here. */
  actingOwner: 1,
  /** Its buckets changed since they were last queued for the successors. */
  changed: 2,
  /** It waits to be written to the store. */
  unwritten: 4,
} as const;

/** A client as the table shows it: owned, or a copy for another node. Which of the two follows from the ring. */
export class Client extends Buckets {
  /** Where the table holds it, as a number that does not change; −1: the table does not hold it. */
  slot = -1;
  /** Differs from that of every client that had the slot before. */
  generation = 0;
  /** Monotonic ms until which decisions on its request ids are remembered: until then it is kept, even if idle. */
  remembersUntilMs = 0;
  hashHigh = 0;
  hashLow = 0;
  /** The marks when it was read from the table. */
  marks = 0;
  /** Whether the table keeps this very object, as the buckets do not fit into a record. */
  isKept = false;
  /** The id, once someone has asked for it. */
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

import type { Client } from '../state/bucket-table.js';

/** A queue that is longer than this is rid of repeated clients when it has doubled. */
const SHORT = 8_192;
/** More than the largest generation. */
const GENERATIONS = 2 ** 29;
const WHOLE = 1;

/** Where a client is, and which of the clients that had this slot it is. */
type Place = Pick<Client, 'slot' | 'generation'>;

/** A client in a queue. */
export interface Queued extends Readonly<Place> {
  /** true: all that is known of the client is to be sent; false: the changes only. */
  readonly whole: boolean;
}

/**
 * The clients of which a node is to get copies, by slot, in the order in which they came. The first of them are in the
 * message under way. They stay in the queue until they are acknowledged.
 *
 * A client may stand here twice, and is then sent twice. It usually comes once in an interval, so a lookup for each
 * addition costs more than that.
 */
export class Outgoing {
  /** Pairs of a slot, and twice a generation plus `WHOLE`. */
  private pairs: number[] = [];
  /** Place of the first pair. */
  private first = 0;
  private sendingPairs = 0;
  private shortenAbove = SHORT;
  /** All clients in the queue, once `has` was called; `undefined` after each change. */
  private index: Set<number> | undefined;

  /** Number of clients that wait, those that stand here twice counted twice. */
  get waiting(): number {
    return (this.pairs.length - this.first) / 2 - this.sendingPairs;
  }

  /** Number of clients in the message under way. */
  get sending(): number {
    return this.sendingPairs;
  }

  get isEmpty(): boolean {
    return this.first === this.pairs.length;
  }

  add({ slot, generation }: Place, whole: boolean): void {
    this.pairs.push(slot, 2 * generation + (whole ? WHOLE : 0));
    this.index = undefined;
    if (this.waiting > this.shortenAbove) this.shorten();
  }

  /** Puts waiting clients into the message under way, as long as `pack` returns true; at least one if any waits. */
  send(pack: (slot: number, generation: number, whole: boolean) => boolean): void {
    const { pairs } = this;
    let at = this.first + 2 * this.sendingPairs;
    while (at < pairs.length) {
      const value = pairs[at + 1]!;
      const more = pack(pairs[at]!, value >> 1, (value & WHOLE) !== 0);
      at += 2;
      if (!more) break;
    }
    this.sendingPairs = (at - this.first) / 2;
  }

  /** Ends the message under way. Clients that were not acknowledged wait again, before the others. */
  sent(acknowledged: boolean): void {
    if (acknowledged) this.first += 2 * this.sendingPairs;
    this.sendingPairs = 0;
    this.index = undefined;
    if (2 * this.first < this.pairs.length) return;
    this.pairs = this.pairs.slice(this.first);
    this.first = 0;
  }

  /** Whether the client waits or is under way. */
  has({ slot, generation }: Place): boolean {
    this.index ??= new Set(this.all().map((one) => one.slot * GENERATIONS + one.generation));
    return this.index.has(slot * GENERATIONS + generation);
  }

  /** The clients that wait or are under way, each once. */
  unacknowledged(): readonly Queued[] {
    const latest = new Map<number, Queued>();
    for (const one of this.all()) {
      const before = latest.get(one.slot);
      const wasWhole = before?.generation === one.generation && before.whole;
      latest.set(one.slot, wasWhole ? before : one);
    }
    return [...latest.values()];
  }

  private all(): Queued[] {
    const { pairs, first } = this;
    return Array.from({ length: (pairs.length - first) / 2 }, (_, i) => {
      const value = pairs[first + 2 * i + 1]!;
      return { slot: pairs[first + 2 * i]!, generation: value >> 1, whole: (value & WHOLE) !== 0 };
    });
  }

  /** Leaves each waiting client in the queue once. So the queue is at most twice as long as there are clients. */
  private shorten(): void {
    const begin = this.first + 2 * this.sendingPairs;
    const waiting = new Map<number, number>();
    for (let at = begin; at < this.pairs.length; at += 2) {
      const [slot, value] = [this.pairs[at]!, this.pairs[at + 1]!];
      const before = waiting.get(slot);
      waiting.set(slot, before !== undefined && before >> 1 === value >> 1 ? before | value : value);
    }
    this.pairs.length = begin;
    for (const [slot, value] of waiting) this.pairs.push(slot, value);
    this.shortenAbove = Math.max(SHORT, 2 * waiting.size);
  }
}

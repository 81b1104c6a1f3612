import type { CheckResult } from '../protocol/messages.js';
import type { Clock } from '../lib/clock.js';

type Results = readonly CheckResult[];

interface Answered {
  readonly messageId: string;
  readonly results: Results | Promise<Results>;
  readonly bytes: number;
  readonly atMs: number;
}

/**
 * The answers to batches of checks, in case a batch is sent again: it is charged once, and gets the same answer.
 *
 * Forgets the oldest answers first. A queue beside the map says which they are, because a map that loses its first
 * entries one by one takes ever longer to find the next one.
 */
export class AnsweredBatches {
  private readonly byId = new Map<string, Answered>();
  /** In the order in which they came; forgotten before `first`. */
  private queue: (Answered | undefined)[] = [];
  private first = 0;
  private bytes = 0;

  /**
   * @param ttlMs answers are forgotten after this time
   * @param maxBytes bound of the bytes of all answers
   */
  constructor(
    private readonly clock: Clock,
    private readonly ttlMs: number,
    private readonly maxBytes: number,
  ) {}

  get(messageId: string): Results | Promise<Results> | undefined {
    const answered = this.byId.get(messageId);
    return answered === undefined || this.clock.nowMs() - answered.atMs >= this.ttlMs ? undefined : answered.results;
  }

  /** @param size upper bound of the size of the answer */
  add(messageId: string, results: Results | Promise<Results>, size: number): void {
    const answered = { messageId, results, bytes: size, atMs: this.clock.nowMs() };
    this.byId.set(messageId, answered);
    this.queue.push(answered);
    this.bytes += size;
    this.forgetOld(answered.atMs);
  }

  private forgetOld(nowMs: number): void {
    for (; this.first < this.queue.length; this.first += 1) {
      const oldest = this.queue[this.first]!;
      if (this.bytes <= this.maxBytes && nowMs - oldest.atMs < this.ttlMs) break;
      if (this.byId.get(oldest.messageId) === oldest) this.byId.delete(oldest.messageId);
      this.queue[this.first] = undefined;
      this.bytes -= oldest.bytes;
    }
    if (2 * this.first <= this.queue.length) return;
    this.queue = this.queue.slice(this.first);
    this.first = 0;
  }
}

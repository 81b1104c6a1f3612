import type { CheckResult } from '../protocol/messages.js';
import type { Clock } from '../lib/clock.js';

type Results = readonly CheckResult[];

/** The answers to batches of checks, in case a batch is sent again: it is charged once, and gets the same answer. */
interface AnsweredBatches {
  get(batchId: string): Results | Promise<Results> | undefined;
  /** @param bytes upper bound of the size of the answer */
  add(batchId: string, results: Results | Promise<Results>, bytes: number): void;
}

interface Answered {
  readonly batchId: string;
  readonly results: Results | Promise<Results>;
  readonly bytes: number;
  readonly atMs: number;
}

/**
 * Forgets the oldest answers first. A queue beside the map says which they are, because a map that loses its first
 * entries one by one takes ever longer to find the next one.
 * @param options.ttlMs answers are forgotten after this time
 * @param options.maxBytes bound of the bytes of all answers
 */
export function createAnsweredBatches(
  { clock }: { clock: Clock },
  { ttlMs, maxBytes }: { ttlMs: number; maxBytes: number },
): AnsweredBatches {
  const byId = new Map<string, Answered>();
  /** In the order in which they came; forgotten before `first`. */
  let queue: (Answered | undefined)[] = [];
  let first = 0;
  let bytes = 0;

  function forgetOld(nowMs: number): void {
    for (; first < queue.length; first += 1) {
      const oldest = queue[first]!;
      if (bytes <= maxBytes && nowMs - oldest.atMs < ttlMs) break;
      if (byId.get(oldest.batchId) === oldest) byId.delete(oldest.batchId);
      queue[first] = undefined;
      bytes -= oldest.bytes;
    }
    if (2 * first <= queue.length) return;
    queue = queue.slice(first);
    first = 0;
  }

  return {
    get(batchId) {
      const answered = byId.get(batchId);
      return answered === undefined || clock.nowMs() - answered.atMs >= ttlMs ? undefined : answered.results;
    },
    add(batchId, results, size) {
      const answered = { batchId, results, bytes: size, atMs: clock.nowMs() };
      byId.set(batchId, answered);
      queue.push(answered);
      bytes += size;
      forgetOld(answered.atMs);
    },
  };
}

import { CheckBatch, type BatchDecider, type BatchItem } from '../../src/limits/decide/check-batch.js';
import type { Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { TokenringError } from '../../src/lib/error.js';

/** A decision, or why there is none. */
export type Answer = Decision | TokenringError;

export function answerOf(item: BatchItem): Answer {
  return item.error ?? item.decision;
}

/** All answers of a batch as objects, in order. */
export function answersOf({ items }: CheckBatch): Answer[] {
  return items.map(answerOf);
}

export function answer(item: BatchItem, given: Answer): void {
  if (given instanceof TokenringError) item.fail(given);
  else item.record(given, given);
}

/** Lets a node decide several checks as one batch. */
export async function checkMany(decider: BatchDecider, checks: readonly Check[]): Promise<Answer[]> {
  const batch = CheckBatch.of(checks);
  await decider.decide(batch);
  return answersOf(batch);
}

/** Decides each check by a function. */
export function deciderOf(decide: (check: Check) => Answer | Promise<Answer>): BatchDecider {
  return {
    decide({ items }) {
      const later: Promise<void>[] = [];
      for (const item of items) {
        if (item.isAnswered) continue;
        const given = decide(item.check);
        if (given instanceof Promise) later.push(given.then((one) => answer(item, one)));
        else answer(item, given);
      }
      return later.length === 0 ? undefined : Promise.all(later).then(() => undefined);
    },
  };
}

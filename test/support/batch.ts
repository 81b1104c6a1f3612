import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import type { Answer } from '../../src/limits/decide/check-batch.js';
import type { CheckPipeline } from '../../src/node/decide/check-pipeline.js';
import type { Check } from '../../src/limits/decide/decide.js';

/** All answers of a batch as objects, in order. */
export function answersOf(batch: CheckBatch): Answer[] {
  return Array.from({ length: batch.size }, (_, place) => batch.answerAt(place));
}

/** Lets a node decide several checks as one batch. */
export async function checkMany(
  pipeline: Pick<CheckPipeline, 'checkMany'>,
  checks: readonly Check[],
): Promise<Answer[]> {
  const batch = CheckBatch.of(checks);
  await pipeline.checkMany(batch);
  return answersOf(batch);
}

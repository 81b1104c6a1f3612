import { join } from 'node:path';
import { missed } from './verdict.js';
import type { Tool } from './tools.js';
import { BusyError, type RunOptions, type StageResult } from './stage.js';

/** One line of the table: a fault, and what it may do. */
export interface Row {
  readonly name: string;
  readonly fault: string;
  /** What the machine must have. */
  readonly needs: readonly Tool[];
  run(options: RunOptions): Promise<StageResult>;
}

/** Whether what it missed may be the machine's doing: a time, or anything in a run whose nodes got no processor for long. */
export function isDoubtful(result: StageResult): boolean {
  const misses = missed(result);
  return misses.length > 0 && (result.stalls > 0 || misses.every(({ timing }) => timing === true));
}

/**
 * Runs a row, and again while the result is doubtful, or there is none as the machine had no time for it.
 * @param told is called with the result of each run
 */
export async function runJudged(
  row: Row,
  options: RunOptions,
  tries: number,
  told: (result: StageResult, folder: string) => void = () => undefined,
): Promise<StageResult> {
  for (let i = 1; ; i += 1) {
    const folder = join(options.folder, `${row.name}-${i}`);
    let result: StageResult;
    try {
      result = await row.run({ ...options, seed: options.seed + i, folder });
    } catch (error) {
      if (error instanceof BusyError && i < tries) continue;
      throw error;
    }
    told(result, folder);
    if (!isDoubtful(result) || i === tries) return result;
  }
}

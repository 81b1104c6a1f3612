import type { Violation } from './checker.js';
import type { Asked, Fault, History } from './history.js';

/** The longest that an answer may take, in suspicion times, besides the time that its node was frozen or cut off. */
const ANSWERED_WITHIN = 4;

/** Each request is answered in bounded time, unless the node that was asked died. */
export function checkAnswers(history: History): Violation[] {
  const violations: Violation[] = [];
  for (const one of history.asked) {
    if (one.answeredMs === undefined && died(history, one)) continue;
    const untilMs = one.answeredMs ?? history.endMs;
    const boundMs = ANSWERED_WITHIN * history.setting.suspectAfterMs + heldUpMs(history, one, untilMs);
    if (untilMs - one.askedMs > boundMs) {
      violations.push({
        check: 'answered',
        message: `#${one.id} at ${one.at}, ${one.askedMs}: answered ${one.answeredMs}`,
      });
    } else if (one.answeredMs === undefined) {
      violations.push({ check: 'answered', message: `#${one.id} at ${one.at}, ${one.askedMs}: not answered` });
    }
  }
  return violations;
}

function heldUpMs({ faults }: History, one: Asked, untilMs: number): number {
  const touching = faults.filter(({ kind, fromMs, toMs }) => {
    const holds: readonly Fault['kind'][] = ['freeze', 'partition', 'one-way', 'lossy', 'silence'];
    return holds.includes(kind) && fromMs <= untilMs && toMs >= one.askedMs;
  });
  return touching.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
}

function died({ faults }: History, one: Asked): boolean {
  return faults.some((fault) => fault.kind === 'crash' && fault.node === one.at && fault.fromMs >= one.askedMs);
}

import type { Violation } from './checker.js';
import { MENDED, isPlanned } from './excuses.js';
import type { Asked, History } from './history.js';

/**
 * A check is answered as overload only while as many as may wait do wait at that node, and a fallback decides only where a
 * fault may keep the owner from it, or the owner is so far that its answer came too late. That an overloaded answer charges nothing is seen in the figures of others.
 */
export function checkOverload(history: History): Violation[] {
  const violations: Violation[] = [];
  for (const one of history.asked) {
    const what = `#${one.id} at ${one.at}, ${one.askedMs}`;
    if (one.overloaded === true && waitingWith(history, one) < (history.setting.maxQueued ?? Infinity))
      violations.push({ check: 'overload', message: `${what}: answered as overload, though few wait` });
    if (one.decision?.source === 'fallback' && !isLate(history, one) && !isTouched(history, one))
      violations.push({ check: 'overload', message: `${what}: decided by a fallback without a fault` });
  }
  return violations;
}

/** Others that were not answered yet when this one was. */
function waitingWith({ asked, endMs }: History, { id, at, answeredMs = endMs }: Asked): number {
  const waits = (other: Asked): boolean =>
    other.id !== id && other.at === at && other.askedMs <= answeredMs && (other.answeredMs ?? Infinity) >= answeredMs;
  return asked.filter(waits).length;
}

/** So long that the node gave up the owner. */
function isLate({ setting, endMs }: History, { askedMs, answeredMs = endMs }: Asked): boolean {
  return answeredMs - askedMs >= setting.suspectAfterMs;
}

function isTouched({ faults, setting, endMs }: History, { askedMs, answeredMs = endMs }: Asked): boolean {
  const mendMs = MENDED * setting.suspectAfterMs;
  return faults.some((fault) => !isPlanned(fault) && fault.fromMs <= answeredMs && fault.toMs + mendMs >= askedMs);
}

import type { Violation } from './checker.js';
import type { Asked, Fault, History } from './history.js';

/**
 * A few messages: to the owner, from there to a successor, and all of it once more, as the owner has just changed. Members
 * that come and go at the same time wait for each other.
 */
const MESSAGES = 8;
/** Nodes further apart ask twice, and wait for each other longer. */
const NEAR_MS = 100;
/** The longest that it may take otherwise, in suspicion times, besides the time that nodes were frozen or cut off. */
const ANSWERED_WITHIN = 4;

/** Each request is answered in bounded time, unless the node that was asked died. */
export function checkAnswers(history: History): Violation[] {
  const violations: Violation[] = [];
  for (const one of history.asked) {
    if (one.answeredMs === undefined && died(history, one)) continue;
    const tookMs = (one.answeredMs ?? history.endMs) - one.askedMs;
    const boundMs = boundOf(history, one);
    if (one.answeredMs !== undefined && tookMs <= boundMs) continue;
    const ended = one.answeredMs === undefined ? 'not answered' : `answered after ${tookMs} ms, bound ${boundMs}`;
    violations.push({ check: 'answered', message: `#${one.id} at ${one.at}, ${one.askedMs}: ${ended}` });
  }
  return violations;
}

function boundOf(history: History, one: Asked): number {
  const { faults, setting, endMs } = history;
  const untilMs = one.answeredMs ?? endMs;
  const near = setting.delayMs <= NEAR_MS;
  const touching = faults.filter(({ fromMs, toMs }) => fromMs <= untilMs && toMs >= one.askedMs);
  if (near && faults.every((fault) => isPrompt(fault) || fault.fromMs > untilMs))
    return setting.promptMs + MESSAGES * setting.delayMs * Math.max(1, touching.length);
  return touching.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, ANSWERED_WITHIN * setting.suspectAfterMs);
}

/** Planned, or noticed at once. */
function isPrompt(fault: Fault): boolean {
  return fault.kind === 'join' || fault.kind === 'leave' || (fault.kind === 'crash' && !fault.silent);
}

function died({ faults }: History, one: Asked): boolean {
  return faults.some(
    (fault) =>
      (fault.kind === 'restart' || (fault.kind === 'crash' && fault.node === one.at)) && fault.fromMs >= one.askedMs,
  );
}

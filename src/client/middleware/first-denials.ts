import type { Decision } from '../../limits/decide/decision.js';

/** Bound of clients whose first denial is remembered. */
const MAX_FIRST_DENIALS = 10_000;

/** Creates a function that tells whether a denial is the first of its client in a window. */
export function createFirstDenials(): (
  clientId: string,
  windowMs: number | undefined,
  denial: Pick<Decision, 'resetMs'>,
) => boolean {
  const untilMs = new Map<string, number>();
  return (clientId, windowMs, { resetMs }) => {
    const nowMs = performance.now();
    if (nowMs < (untilMs.get(clientId) ?? -Infinity)) return false;
    untilMs.delete(clientId);
    untilMs.set(clientId, nowMs + (windowMs ?? resetMs));
    if (untilMs.size > MAX_FIRST_DENIALS) untilMs.delete(untilMs.keys().next().value!);
    return true;
  };
}

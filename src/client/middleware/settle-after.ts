import type { Limiter } from '../../limits/request/limiter.js';
import { warnOnce } from '../runtime.js';
import type { End } from './exchange.js';
import type { CommonOptions, RequestArgs } from './rate-limit-options.js';

type Rule<A extends RequestArgs> = Pick<CommonOptions<A>, 'costAfter' | 'skipSuccessful' | 'skipFailed'>;

/**
 * Settles a reserved cost of a request whose answer has ended. Never rejects: a failure emits a process warning, once
 * for each message.
 */
export async function settleAfter<A extends RequestArgs>(
  settle: Limiter['settle'],
  reservation: string,
  rule: Rule<A>,
  args: A,
  end: End,
): Promise<void> {
  try {
    const cost = await finalCost(rule, args, end);
    if (cost !== undefined) await settle(reservation, cost);
  } catch (error) {
    const { message = String(error), code } = Object(error) as { message?: string; code?: unknown };
    warnOnce(`rateLimit: a cost could not be settled, so all that was reserved counts: ${message}`, String(code));
  }
}

/** @returns `undefined` when the reserved cost stays */
function finalCost<A extends RequestArgs>(
  { costAfter, skipSuccessful, skipFailed }: Rule<A>,
  args: A,
  { status, isComplete }: End,
): number | Promise<number> | undefined {
  if (costAfter !== undefined) return costAfter(...args);
  const hasFailed = status >= 400 || !isComplete;
  return (hasFailed ? skipFailed : skipSuccessful) === true ? 0 : undefined;
}

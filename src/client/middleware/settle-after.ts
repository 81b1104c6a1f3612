import type { Request, Response } from 'express';
import type { Limiter } from '../../core/request/limiter.js';
import type { RateLimitOptions } from './rate-limit-options.js';
import { warnOnce } from '../warn-once.js';

type Rule = Pick<RateLimitOptions, 'costAfter' | 'skipSuccessful' | 'skipFailed'>;

/**
 * Settles a reserved cost once the response has ended or its connection has broken.
 * A failure emits a process warning, once for each message.
 */
export function settleAfter(
  settle: Limiter['settle'],
  reservation: string,
  rule: Rule,
  req: Request,
  res: Response,
): void {
  res.once('close', () => {
    finalCost(rule, req, res)
      .then((cost) => (cost === undefined ? undefined : settle(reservation, cost)))
      .catch((error: unknown) => {
        const { message = String(error), code } = Object(error) as { message?: string; code?: unknown };
        warnOnce(`rateLimit: a cost could not be settled, so all that was reserved counts: ${message}`, String(code));
      });
  });
}

/** @returns `undefined` when the reserved cost stays */
async function finalCost(
  { costAfter, skipSuccessful, skipFailed }: Rule,
  req: Request,
  res: Response,
): Promise<number | undefined> {
  if (costAfter !== undefined) return costAfter(req, res);
  const hasFailed = res.statusCode >= 400 || !res.writableFinished;
  return (hasFailed ? skipFailed : skipSuccessful) === true ? 0 : undefined;
}

import type { NextFunction, Request, Response } from 'express';
import type { Decision } from '../../limits/decide/decision.js';
import { RequestLimiter } from '../middleware/rate-limit.js';
import type { CommonOptions } from '../middleware/rate-limit-options.js';
import { ofExpress, sendByExpress } from './exchanges.js';

export * from './common.js';

export interface RateLimitOptions extends CommonOptions<[req: Request, res: Response]> {
  /**
   * Answers each denial. The headers are already set, and errors go to Express. Default: 429,
   * `application/problem+json`.
   */
  readonly onDenied?: (req: Request, res: Response, decision: Decision, next: NextFunction) => unknown;
}

/**
 * Creates Express middleware that lets a request pass, or answers 429 with `Retry-After`. Both answers have
 * `RateLimit-Policy` and `RateLimit`. The decision is `res.locals.rateLimit`.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function rateLimit(options: RateLimitOptions): (req: Request, res: Response, next: NextFunction) => void {
  const limiter = new RequestLimiter<[Request, Response]>(options);
  return (req, res, next) => {
    limiter
      .limit(ofExpress(req, res), [req, res], next)
      .then((passage) => {
        if (passage.kind === 'pass') next();
        if (passage.kind === 'answer') sendByExpress(res, passage.answer);
      })
      .catch(next);
  };
}

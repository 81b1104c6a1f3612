import type { Decision, Settlement } from './decision.js';
import type { ClientDescription } from './description.js';
import type { TokenringError } from './error.js';
import type { AllowRequest, Duration } from './request.js';

/**
 * What happens when no node that knows a client's bucket can be asked: decide here with an equal share of the limit
 * (`local`), admit (`open`), deny (`closed`), or reject (`throw`).
 */
export type OnUnavailable = 'local' | 'open' | 'closed' | 'throw';

/** What `allow` takes besides its limit. */
export type AllowOptions = Omit<AllowRequest, 'clientId' | 'limit' | 'window' | 'windowMs' | 'limits' | 'policy'>;

export interface AcquireOptions {
  /** Longest wait, 0 to 3,600,000 ms. */
  readonly waitMs: number;
  /** Ends the wait; `acquire` rejects with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * What decides, in this process or elsewhere: `createNode` and `createClient` both make one.
 * Every call rejects with a `TokenringError`: `invalid_request` names the `field` and what is `expected`; `closed` after
 * `close`; `unavailable`, `no_answer` or `overloaded` when no node can answer now.
 */
export interface Limiter {
  /**
   * Asks for one request of this client and counts it.
   * @param limit requests allowed per window: whole, 0 to 1e9; 0 denies all
   * @param window whole ms, or `"10s"`, `"1m"`, `"1h"`, `"1d"`; 1 ms to 366 days
   */
  allow(clientId: string, limit: number, window: number | Duration, options?: AllowOptions): Promise<boolean>;
  /** The full question and the full answer. A denial is an answer, not an error. */
  check(request: AllowRequest): Promise<Decision>;
  /**
   * As `check`, but waits for its turn when it is denied: up to `waitMs`, in the order of arrival among equal requests of
   * this process. Beyond 1,000 waiting requests, further ones are asked once.
   * @returns a denial, at once, when the request cannot pass in time
   */
  acquire(request: AllowRequest, options: AcquireOptions): Promise<Decision>;
  /** Several requests, answered in order. Never rejects: an error stands in place of its decision, with its `item`. */
  checkMany(requests: readonly AllowRequest[]): Promise<readonly (Decision | TokenringError)[]>;
  /** Whole tokens that this client could take now. Consumes nothing. Same parameters as `allow`. */
  remaining(clientId: string, limit: number, window: number | Duration, options?: AllowOptions): Promise<number>;
  /** Takes a cost that is not final yet. When allowed, the decision names a `reservation` for `settle`. */
  reserve(request: AllowRequest): Promise<Decision>;
  /**
   * Replaces a reserved cost by the final one, within ten minutes. Settling twice counts once.
   * @param cost whole, 0 to 1e9
   * @throws TokenringError `unknown_reservation` when there is none, or no longer
   */
  settle(reservation: string, cost: number): Promise<Settlement>;
  /** What this client has consumed. Consumes nothing. */
  describe(clientId: string): Promise<ClientDescription>;
  /**
   * Forgets what this client has consumed, on every node. A remote limiter needs a token with the role `admin`.
   * @throws TokenringError `unavailable` when a node has not confirmed; call it again
   */
  reset(clientId: string): Promise<void>;
  /** Finishes calls in progress and stops; later calls reject. A second call returns the same promise. */
  close(): Promise<void>;
}

/** The calls that follow from `check`. */
export function callsBy(
  check: Limiter['check'],
): Pick<Limiter, 'check' | 'allow' | 'checkMany' | 'remaining' | 'reserve'> {
  return {
    check,
    allow: async (clientId, limit, window, options) => (await check({ ...options, clientId, limit, window })).allowed,
    checkMany: (requests) =>
      Promise.all(
        requests.map((request, item) => check(request).catch((error: unknown) => (error as TokenringError).of(item))),
      ),
    remaining: async (clientId, limit, window, options) =>
      (await check({ ...options, clientId, limit, window, peek: true })).remaining,
    reserve: (request) => check({ ...request, reserve: true }),
  };
}

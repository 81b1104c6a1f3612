import type { Decision, Settlement } from '../decide/decision.js';
import type { ClientDescription } from './description.js';
import type { TokenringError } from '../../lib/error.js';
import type { AllowRequest, Duration } from './request.js';

/**
 * The behaviour when no node that knows a client's bucket can be asked: decide here with an equal share of the limit
 * (`local`), admit (`open`), deny (`closed`), or reject (`throw`).
 */
export type OnUnavailable = 'local' | 'open' | 'closed' | 'throw';

/** The options of `allow` besides its limit. */
export type AllowOptions = Omit<AllowRequest, 'clientId' | 'limit' | 'window' | 'windowMs' | 'limits' | 'policy'>;

export interface AcquireOptions {
  /** Longest wait: whole ms, or `"500ms"`, `"2s"`, up to `"1h"`. 0 asks once. */
  readonly wait: number | Duration;
  /** Ends the wait; `acquire` rejects with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * A rate limiter, in this process or remote. `createNode` and `createClient` both make one.
 * A call that fails rejects with a `TokenringError`. Its code is `invalid_request`, with the `field` and the `expected`
 * values; `closed` after `close`; or `unavailable`, `no_answer`, or `overloaded` when no node can answer now.
 */
export interface Limiter {
  /** What this limiter does when no node can decide, for middleware. */
  readonly onUnavailable: OnUnavailable;
  /**
   * Decides one request of this client and counts it if it is allowed.
   * @param limit requests allowed per window: whole, 0 to 1e9; 0 denies all
   * @param window whole ms, or `"10s"`, `"1m"`, `"1h"`, `"1d"`; 1 ms to 366 days
   */
  allow(clientId: string, limit: number, window: number | Duration, options?: AllowOptions): Promise<boolean>;
  /** Decides a request and returns the whole decision. A denial is a decision, not an error. */
  check(request: AllowRequest): Promise<Decision>;
  /**
   * Decides a request as `check` does. A denied request waits up to `wait` for its turn. Equal requests of this
   * process wait in the order of arrival. While 1,000 requests wait, further requests do not wait.
   * @returns a denial, at once, if the request cannot pass in time
   * @throws TokenringError `closed` if the limiter is closed while the request waits
   */
  acquire(request: AllowRequest, options: AcquireOptions): Promise<Decision>;
  /** Decides several requests, in order. Never rejects: an error with its `item` takes the place of a decision. */
  checkMany(requests: readonly AllowRequest[]): Promise<readonly (Decision | TokenringError)[]>;
  /** Returns the whole tokens that this client could take now. Consumes nothing. Has the parameters of `allow`. */
  remaining(clientId: string, limit: number, window: number | Duration, options?: AllowOptions): Promise<number>;
  /** Takes a cost that is not final yet. When allowed, the decision names a `reservation` for `settle`. */
  reserve(request: AllowRequest): Promise<Decision>;
  /**
   * Replaces a reserved cost by the final one, within ten minutes. Settling twice counts once.
   * @param cost whole, 0 to 1e9
   * @throws TokenringError `unknown_reservation` if the reservation does not exist or has expired
   */
  settle(reservation: string, cost: number): Promise<Settlement>;
  /** Returns the consumption of this client. Consumes nothing. */
  describe(clientId: string): Promise<ClientDescription>;
  /**
   * Forgets the consumption of this client on every node. A remote limiter needs a token with the role `admin`.
   * @throws TokenringError `unavailable` if a node has not confirmed; call it again
   */
  reset(clientId: string): Promise<void>;
  /** Finishes calls in progress and stops; later calls reject. A second call returns the same promise. */
  close(): Promise<void>;
}

/**
 * The methods of a limiter that need only `check`. They are properties, so that callers may take them off the limiter:
 * `const { allow } = await createNode()`.
 */
export abstract class LimiterMethods {
  abstract readonly check: Limiter['check'];

  readonly allow: Limiter['allow'] = async (clientId, limit, window, options) =>
    (await this.check(requestOf({ clientId, limit, window }, options))).allowed;

  readonly checkMany: Limiter['checkMany'] = (requests) =>
    Promise.all(
      requests.map((request, item) =>
        this.check(request).catch((error: unknown) => (error as TokenringError).of(item)),
      ),
    );

  readonly remaining: Limiter['remaining'] = async (clientId, limit, window, options) =>
    (await this.check(requestOf({ clientId, limit, window, peek: true }, options))).remaining;

  readonly reserve: Limiter['reserve'] = (request) =>
    this.check(Object.assign({}, request, { reserve: true as const }));
}

/** The arguments of a call with its options, which cannot replace them: callers without types may pass any. */
function requestOf(given: AllowRequest, options: AllowOptions | undefined): AllowRequest {
  return options === undefined ? given : Object.assign({}, given, options, given);
}

import { CLOSED_RETRY_MS, decisionBy, isClosed, type Decision, type Provenance } from '../../limits/decide/decision.js';
import { BoundedMap } from '../bounded-map.js';
import { TokenringError } from '../../lib/error.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import { seconds } from '../../limits/request/rate-limit-headers.js';
import type { AllowRequest } from '../../limits/request/request.js';
import { rulesOf } from '../question.js';
import {
  denialAnswer,
  unavailableAnswer,
  type End,
  type Exchange,
  type ProblemAnswer,
  type ProxyTrust,
} from './exchange.js';
import { limitsOf, setLimitHeaders, type HeaderStyle } from './limit-headers.js';
import {
  checkRateLimitOptions,
  settlesLater,
  type CommonOptions,
  type OptionRules,
  type RequestArgs,
} from './rate-limit-options.js';
import { warnOnce } from '../runtime.js';

/** The result for an adapter, which acts on it. */
export type Passage =
  /** Lets the handler run. */
  | { readonly kind: 'pass' }
  /** Sends this answer instead. */
  | { readonly kind: 'answer'; readonly answer: ProblemAnswer }
  /** `onDenied` has dealt with the request, and has returned this. */
  | { readonly kind: 'denied'; readonly result: unknown }
  /** Does nothing: the caller has gone, or another handler has answered. */
  | { readonly kind: 'over' };

const UNAVAILABLE_CODES: readonly unknown[] = ['no_answer', 'overloaded', 'unavailable', 'draining'];

/** Number of limiters without a name, by node or client. */
const unnamed = new WeakMap<object, number>();

/** Bound of clients whose first denial is remembered. */
const MAX_FIRST_DENIALS = 10_000;

const NOBODY: Provenance = { owner: '', source: 'fallback', degraded: true };

/** The end of an answer that had not begun when its connection broke. */
const BROKEN: End = { status: 500, isComplete: false };

/** Limits the requests of a framework. Each adapter gives it requests as exchanges, and acts on the passage. */
export class RequestLimiter<A extends RequestArgs> {
  /** The fields that all questions have. */
  private readonly fixed: Partial<AllowRequest>;
  private readonly styles: readonly HeaderStyle[];
  private readonly settlesLater: boolean;
  /** When the window ends in which a client had its first denial. */
  private readonly deniedUntilMs = new BoundedMap<string, number>(MAX_FIRST_DENIALS);

  /** @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected */
  constructor(
    private readonly options: CommonOptions<A>,
    rules: OptionRules = {},
  ) {
    checkRateLimitOptions(options, rules);
    const { headers = 'draft-11' } = options;
    this.styles = headers === false ? [] : [headers].flat();
    this.settlesLater = settlesLater(options);
    this.fixed = fixedFields(options, this.settlesLater);
  }

  /**
   * Decides a request, and sets the headers of its answer.
   * @param args of callbacks
   * @param next the last argument of `onDenied`
   * @throws Error for the error handler of the framework
   */
  async limit(exchange: Exchange, args: A, next: unknown): Promise<Passage> {
    try {
      const asked = await this.ask(exchange, args);
      return asked === undefined ? { kind: 'pass' } : await this.finish(exchange, args, next, asked);
    } catch (error) {
      // The caller disconnected while it waited.
      if ((Object(error) as Error).name === 'AbortError' && exchange.isGone()) return { kind: 'over' };
      throw asFault(error);
    }
  }

  /** @returns `undefined` for a request that is skipped */
  private async ask(exchange: Exchange, args: A): Promise<Asked | undefined> {
    const { limiter, skip, wait } = this.options;
    if ((await skip?.(...args)) === true) return undefined;
    const question = await this.questionOf(exchange, args);
    try {
      const decision = await (wait === undefined
        ? limiter.check(question)
        : limiter.acquire!(question, { wait, signal: exchange.signal() }));
      return { question, decision: decision.source === 'fallback' ? this.withoutOwner(decision) : decision };
    } catch (error) {
      const { code, retryAfterMs } = Object(error) as Partial<TokenringError>;
      if (this.isUnknownPolicy(error)) return { question, decision: this.withoutPolicy(error) };
      if (!UNAVAILABLE_CODES.includes(code)) throw error;
      return { question, decision: this.withoutOwner(denial(question.limit ?? 0, retryAfterMs), error as Error) };
    }
  }

  private async questionOf(exchange: Exchange, args: A): Promise<AllowRequest> {
    const { key, limit, policy, cost } = this.options;
    if (key === undefined) checkProxy(exchange.proxyTrust());
    const id: unknown = key === undefined ? exchange.key() : await key(...args);
    // A longer id is not sent, as it may be too large for a message. A text has at least as many bytes as code units.
    if (typeof id !== 'string' || id === '' || id.length > MAX_CLIENT_ID_BYTES)
      throw new TokenringError('invalid_request', {
        field: 'clientId',
        expected: `a text of 1 to ${MAX_CLIENT_ID_BYTES} bytes from \`key\``,
      });
    return {
      clientId: id,
      ...this.fixed,
      ...(typeof limit === 'function' && { limit: await limit(...args) }),
      ...(typeof policy === 'function' && { policy: await policy(...args) }),
      ...(typeof cost === 'function' && { cost: await cost(...args) }),
    };
  }

  private async finish(exchange: Exchange, args: A, next: unknown, { question, decision }: Asked): Promise<Passage> {
    const { name, load, onFirstDenied } = this.options;
    const onDenied = this.options.onDenied as ((...args: [...A, Decision, unknown]) => unknown) | undefined;
    // The caller may have gone, and another handler may have answered.
    if (exchange.isAnswered() || exchange.isGone()) {
      this.settleAtEnd(exchange, args, decision);
      return { kind: 'over' };
    }
    // The node refused a question without rules, so there is no decision.
    const [rule] = rulesOf(question) ?? [];
    const limits = limitsOf(decision, rule, name, exchange);
    // Without the owner's state, there are no figures to show.
    if (decision.source !== 'fallback')
      for (const style of this.styles) setLimitHeaders(exchange, style, decision, limits);
    exchange.keep(decision);
    if (decision.allowed) {
      const done = load?.begin();
      if (done !== undefined) exchange.onEnd(({ status }) => done(status < 500));
      this.settleAtEnd(exchange, args, decision);
      return { kind: 'pass' };
    }
    if (isClosed(decision)) return { kind: 'answer', answer: unavailableAnswer(decision.retryAfterMs!) };
    if (decision.retryAfterMs !== null) exchange.setHeader('Retry-After', String(seconds(decision.retryAfterMs)));
    if (onFirstDenied !== undefined && this.isFirstDenial(question, rule?.windowMs ?? decision.resetMs))
      await onFirstDenied(args[0], decision);
    if (onDenied !== undefined) return { kind: 'denied', result: await onDenied(...args, decision, next) };
    const violated = limits.filter(({ isViolated }) => isViolated).map((one) => one.name);
    return { kind: 'answer', answer: denialAnswer(decision, violated) };
  }

  /** Tells whether a denial is the first of its client in a window. */
  private isFirstDenial({ clientId }: AllowRequest, windowMs: number): boolean {
    const nowMs = performance.now();
    if (nowMs < (this.deniedUntilMs.get(clientId) ?? -Infinity)) return false;
    this.deniedUntilMs.set(clientId, nowMs + windowMs);
    return true;
  }

  /**
   * Decides as `onUnavailable` says, and otherwise as the limiter.
   * @param error of a limiter that has not decided
   */
  private withoutOwner(decision: Decision, error?: Error): Decision {
    switch (this.options.onUnavailable) {
      case 'open':
        return Object.assign({}, decision, { allowed: true, retryAfterMs: 0 });
      case 'closed':
        return Object.assign({}, decision, denial(decision.limit, decision.retryAfterMs || undefined));
      case 'throw':
        throw error ?? new TokenringError('unavailable');
      case undefined:
        if (error !== undefined) throw error;
    }
    return decision;
  }

  /**
   * Decides without the policy: it was deleted, or never written. No share of its limit is known, so a limiter that
   * would decide by its share denies.
   */
  private withoutPolicy(error: TokenringError): Decision {
    const does = this.options.onUnavailable ?? this.options.limiter.onUnavailable ?? 'throw';
    const outcome = { open: 'pass', closed: 'get 503', local: 'get 503', throw: 'get an error' }[does];
    warnOnce(`rateLimit: ${error.message}; until there is one, requests ${outcome}`, 'TOKENRING_UNKNOWN_POLICY');
    if (does === 'throw') throw error;
    return does === 'open' ? Object.assign({}, denial(0), { allowed: true, retryAfterMs: 0 }) : denial(0);
  }

  /** A request under the default policy is one without a limit where there is no default policy. */
  private isUnknownPolicy(error: unknown): error is TokenringError {
    const { code, field } = Object(error) as Partial<TokenringError>;
    const isDefault = this.options.policy === true;
    return code === 'unknown_policy' || (isDefault && code === 'invalid_request' && field === 'limit');
  }

  private settleAtEnd(exchange: Exchange, args: A, { reservation }: Decision): void {
    if (!this.settlesLater || reservation === undefined) return;
    if (exchange.isGone()) void this.settle(reservation, args, BROKEN);
    else exchange.onEnd((end) => this.settle(reservation, args, end));
  }

  /** Never rejects: a failure emits a process warning, once for each message. */
  private async settle(reservation: string, args: A, { status, isComplete }: End): Promise<void> {
    const { limiter, costAfter, skipSuccessful, skipFailed } = this.options;
    const isReturned = (status >= 400 || !isComplete ? skipFailed : skipSuccessful) === true;
    try {
      if (costAfter !== undefined) await limiter.settle!(reservation, await costAfter(...args));
      else if (isReturned) await limiter.settle!(reservation, 0);
    } catch (error) {
      const { message = String(error), code } = Object(error) as { message?: string; code?: unknown };
      warnOnce(`rateLimit: a cost could not be settled, so all that was reserved counts: ${message}`, String(code));
    }
  }
}

function fixedFields(options: CommonOptions<never>, reserve: boolean): Partial<AllowRequest> {
  const { limiter, cost, limit, window, windowMs, burst, algorithm, limits, policy, name } = options;
  const scope = scopeOf(limiter, name, policy !== undefined);
  const given = { limit, window, windowMs, burst, algorithm, limits, policy, cost, scope };
  const isFixed = (value: unknown): boolean => value !== undefined && value !== true && typeof value !== 'function';
  const fixed = Object.fromEntries(Object.entries(given).filter(([, value]) => isFixed(value)));
  return reserve ? Object.assign(fixed, { reserve: true as const }) : fixed;
}

/** Returns the scope of the buckets, so that limiters with equal limits do not share them. The client is the same. */
function scopeOf(limiter: object, name: string | undefined, hasPolicy: boolean): string | undefined {
  if (name !== undefined || hasPolicy) return name;
  const number = (unnamed.get(limiter) ?? 0) + 1;
  unnamed.set(limiter, number);
  return number === 1 ? undefined : `#${number}`;
}

/**
 * Warns once when the trust in proxies does not fit the requests. Then the address is not the caller's: all callers are
 * one client, or a caller can claim any address.
 */
function checkProxy(trust: ProxyTrust | undefined): void {
  if (trust === undefined) return;
  const { trusts, isForwarded, setting, fix } = trust;
  if (isForwarded && trusts === 'nobody')
    warnOnce(
      `rateLimit: a request has X-Forwarded-For, but \`${setting}\` is off, so all callers behind a proxy are one ` +
        `client; say which proxies to trust: ${fix}`,
      'TOKENRING_UNTRUSTED_PROXY',
    );
  else if (trusts === 'anybody')
    warnOnce(
      `rateLimit: \`${setting}\` is true, so a caller can claim any address; ` + `say which proxies to trust: ${fix}`,
      'TOKENRING_TRUSTS_ANYBODY',
    );
  else if (!isForwarded && trusts === 'some')
    warnOnce(
      `rateLimit: \`${setting}\` is set, but a request came without X-Forwarded-For, so it did not come through a ` +
        `proxy; let the proxy send that header, or turn \`${setting}\` off`,
      'TOKENRING_MISSING_PROXY',
    );
}

/** A denial without a node. */
function denial(limit: number, retryAfterMs = CLOSED_RETRY_MS): Decision {
  return decisionBy(NOBODY, { allowed: false, limit, remaining: 0, retryAfterMs, resetMs: 0 });
}

interface Asked {
  readonly question: AllowRequest;
  readonly decision: Decision;
}

/**
 * Wraps an error for a framework. It would answer the status of a node's error, such as 401, as if the caller were at
 * fault.
 */
function asFault(error: unknown): Error {
  // Express continues to the handler for `undefined`, `null`, and 'route'. Other frameworks take only an Error for one.
  if (!(error instanceof Error))
    return new Error('rateLimit: a callback has thrown something that is no error', { cause: error });
  if (!(error instanceof TokenringError)) return error;
  const { code, detail, field, expected } = error;
  const fault = new TokenringError(code, { detail, field, expected, status: 500 }, { cause: error });
  // Frameworks show stacks to callers in development. The place where a node was asked explains nothing.
  fault.stack = String(fault);
  return fault;
}

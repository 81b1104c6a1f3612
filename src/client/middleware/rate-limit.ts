import { CLOSED_RETRY_MS, decisionBy, isClosed } from '../../limits/decide/decision.js';
import type { Decision, Origin } from '../../limits/decide/decision.js';
import { TokenringError } from '../../lib/error.js';
import { seconds } from '../../limits/request/rate-limit-headers.js';
import type { AllowRequest } from '../../limits/request/request.js';
import { rulesOf } from '../question.js';
import { denialAnswer, unavailableAnswer } from './answers.js';
import type { Answer, End, Exchange } from './exchange.js';
import { createFirstDenials } from './first-denials.js';
import { limitsOf, setLimitHeaders } from './limit-headers.js';
import { createQuestions } from './questions.js';
import { checkRateLimitOptions, settlesLater } from './rate-limit-options.js';
import type { CommonOptions, OptionRules, RequestArgs } from './rate-limit-options.js';
import { warnOnce } from '../runtime.js';
import { settleAfter } from './settle-after.js';

/** The result for an adapter, which acts on it. */
export type Passage =
  /** Lets the handler run. */
  | { readonly kind: 'pass' }
  /** Sends this answer instead. */
  | { readonly kind: 'answer'; readonly answer: Answer }
  /** `onDenied` has dealt with the request, and has returned this. */
  | { readonly kind: 'denied'; readonly result: unknown }
  /** Does nothing: the caller has gone, or another handler has answered. */
  | { readonly kind: 'over' };

const UNAVAILABLE_CODES: readonly unknown[] = ['no_answer', 'overloaded', 'unavailable', 'draining'];

const NOBODY: Origin = { owner: '', source: 'fallback', degraded: true };

/** The end of an answer that had not begun when its connection broke. */
const BROKEN: End = { status: 500, isComplete: false };

/**
 * Creates a limiter of requests for any framework.
 * @returns a function that decides a request and sets the headers of its answer. It gets the arguments of callbacks, and
 * `next` of `onDenied`. It rejects with an Error for the error handler of the framework.
 * @throws TypeError that names an option that is missing, unknown, or not valid, and what is expected
 */
export function createRateLimit<A extends RequestArgs>(
  options: CommonOptions<A>,
  rules: OptionRules = {},
): (exchange: Exchange, args: A, next: unknown) => Promise<Passage> {
  checkRateLimitOptions(options, rules);
  const { limiter, name, skip, wait, onFirstDenied, onUnavailable, load, headers = 'draft-11' } = options;
  const onDenied = options.onDenied as ((...args: [...A, Decision, unknown]) => unknown) | undefined;
  const styles = headers === false ? [] : [headers].flat();
  const questionOf = createQuestions(options);
  const isFirst = createFirstDenials();
  const settle = settlesLater(options) ? limiter.settle!.bind(limiter) : undefined;

  function settleAtEnd(exchange: Exchange, args: A, { reservation }: Decision): void {
    if (settle === undefined || reservation === undefined) return;
    const settleBy = (end: End): Promise<void> => settleAfter(settle, reservation, options, args, end);
    if (exchange.isGone()) void settleBy(BROKEN);
    else exchange.onEnd(settleBy);
  }

  async function finish(exchange: Exchange, args: A, next: unknown, { question, decision }: Asked): Promise<Passage> {
    // The caller may have gone, and another handler may have answered.
    if (exchange.isAnswered() || exchange.isGone()) {
      settleAtEnd(exchange, args, decision);
      return { kind: 'over' };
    }
    // The node refused a question without rules, so there is no decision.
    const [rule] = rulesOf(question) ?? [];
    const limits = limitsOf(decision, rule, name, exchange);
    // Without the owner's state, there are no figures to show.
    if (decision.source !== 'fallback') for (const style of styles) setLimitHeaders(exchange, style, decision, limits);
    exchange.keep(decision);
    if (decision.allowed) {
      const done = load?.begin();
      if (done !== undefined) exchange.onEnd(({ status }) => done(status < 500));
      settleAtEnd(exchange, args, decision);
      return { kind: 'pass' };
    }
    if (isClosed(decision)) return { kind: 'answer', answer: unavailableAnswer(decision.retryAfterMs!) };
    if (decision.retryAfterMs !== null) exchange.setHeader('Retry-After', String(seconds(decision.retryAfterMs)));
    if (onFirstDenied !== undefined && isFirst(question.clientId, rule?.windowMs, decision))
      await onFirstDenied(args[0], decision);
    if (onDenied !== undefined) return { kind: 'denied', result: await onDenied(...args, decision, next) };
    const violated = limits.filter(({ isViolated }) => isViolated).map((one) => one.name);
    return { kind: 'answer', answer: denialAnswer(decision, violated) };
  }

  /** @returns `undefined` for a request that is skipped */
  async function ask(exchange: Exchange, args: A): Promise<Asked | undefined> {
    if ((await skip?.(...args)) === true) return undefined;
    const question = await questionOf(exchange, args);
    try {
      const asked =
        wait === undefined ? limiter.check(question) : limiter.acquire!(question, { wait, signal: exchange.signal() });
      const decision = await asked;
      return { question, decision: decision.source === 'fallback' ? withoutOwner(decision) : decision };
    } catch (error) {
      const { code, retryAfterMs } = Object(error) as Partial<TokenringError>;
      if (isUnknownPolicy(error)) return { question, decision: withoutPolicy(error) };
      if (!UNAVAILABLE_CODES.includes(code)) throw error;
      return { question, decision: withoutOwner(undecided(question.limit ?? 0, retryAfterMs), error as Error) };
    }
  }

  /**
   * Decides as `onUnavailable` says, and otherwise as the limiter.
   * @param error of a limiter that has not decided
   */
  function withoutOwner(decision: Decision, error?: Error): Decision {
    switch (onUnavailable) {
      case 'open':
        return Object.assign({}, decision, { allowed: true, retryAfterMs: 0 });
      case 'closed':
        return Object.assign({}, decision, undecided(decision.limit, decision.retryAfterMs || undefined));
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
  function withoutPolicy(error: TokenringError): Decision {
    const does = onUnavailable ?? limiter.onUnavailable ?? 'throw';
    const outcome = { open: 'pass', closed: 'get 503', local: 'get 503', throw: 'get an error' }[does];
    warnOnce(`rateLimit: ${error.message}; until there is one, requests ${outcome}`, 'TOKENRING_UNKNOWN_POLICY');
    const denied = undecided(0);
    if (does === 'throw') throw error;
    return does === 'open' ? Object.assign({}, denied, { allowed: true, retryAfterMs: 0 }) : denied;
  }

  /** A request under the default policy is one without a limit where there is no default policy. */
  function isUnknownPolicy(error: unknown): error is TokenringError {
    const { code, field } = Object(error) as Partial<TokenringError>;
    return code === 'unknown_policy' || (options.policy === true && code === 'invalid_request' && field === 'limit');
  }

  /** @returns the passage of a request for which there is no decision */
  function withoutDecision(exchange: Exchange, error: unknown): Passage {
    const { name: kind } = Object(error) as { name?: unknown };
    // The caller disconnected while it waited.
    if (kind === 'AbortError' && exchange.isGone()) return { kind: 'over' };
    throw asFault(error);
  }

  return async (exchange, args, next) => {
    let asked: Asked | undefined;
    try {
      asked = await ask(exchange, args);
    } catch (error) {
      return withoutDecision(exchange, error);
    }
    if (asked === undefined) return { kind: 'pass' };
    try {
      return await finish(exchange, args, next, asked);
    } catch (error) {
      throw asFault(error);
    }
  };
}

/** A denial without a node. */
function undecided(limit: number, retryAfterMs = CLOSED_RETRY_MS): Decision {
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

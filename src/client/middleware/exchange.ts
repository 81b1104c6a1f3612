import type { Decision } from '../../limits/decide/decision.js';
import { seconds } from '../../limits/request/rate-limit-headers.js';

/** The headers of an answer that has not been sent yet. */
export interface HeaderTarget {
  getHeader(name: string): unknown;
  setHeader(name: string, value: string): unknown;
}

/** How far a framework trusts the header in which proxies name the caller, and what its users call that. */
export interface ProxyTrust {
  readonly trusts: 'nobody' | 'anybody' | 'some';
  /** Whether this request has that header. */
  readonly isForwarded: boolean;
  /** The setting, as in `trust proxy`. */
  readonly setting: string;
  /** Code that sets it for one proxy, as an example. */
  readonly fix: string;
}

/** The end of an answer. */
export interface End {
  readonly status: number;
  /** False when the connection broke before the whole answer was sent. */
  readonly isComplete: boolean;
}

/** One request and its answer, as the adapter of a framework shows them. */
export interface Exchange extends HeaderTarget {
  /** Returns the default client. */
  key(): string;
  /** @returns `undefined` for a framework that does not tell */
  proxyTrust(): ProxyTrust | undefined;
  /** Stores the decision where handlers find it. */
  keep(decision: Decision): void;
  /** Whether another handler has begun an answer. */
  isAnswered(): boolean;
  /** Whether the connection has broken. */
  isGone(): boolean;
  /** Aborts when the connection breaks. */
  signal(): AbortSignal;
  /**
   * Calls the listener once, when the answer has ended or its connection has broken. It may return a promise, which
   * never rejects.
   */
  onEnd(listener: (end: End) => unknown): void;
}

/** A whole answer in place of that of the handler. */
export interface ProblemAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array<ArrayBuffer>;
}

/**
 * Makes the answer to a denial, with the problem type of draft-ietf-httpapi-ratelimit-headers-11.
 * @param violated names of the limits that deny
 */
export function denialAnswer({ retryAfterMs }: Decision, violated: readonly string[]): ProblemAnswer {
  return problemAnswer(429, {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: 'Request cannot be satisfied as assigned quota has been exceeded',
    status: 429,
    'violated-policies': violated,
    retryAfterMs,
  });
}

/** Makes the answer when no node can decide. The caller is not at fault, and learns nothing about the nodes. */
export function unavailableAnswer(retryAfterMs: number): ProblemAnswer {
  const problem = {
    type: 'urn:tokenring:problem:unavailable',
    code: 'unavailable',
    status: 503,
    title: 'Service Unavailable',
    detail: 'The limit of requests cannot be checked now',
    retryAfterMs,
  };
  return problemAnswer(503, problem, { 'Retry-After': String(seconds(retryAfterMs)) });
}

function problemAnswer(status: number, problem: object, headers: ProblemAnswer['headers'] = {}): ProblemAnswer {
  const body = new TextEncoder().encode(JSON.stringify(problem));
  return {
    status,
    headers: {
      'Content-Type': 'application/problem+json',
      'Content-Length': String(body.length),
      'Cache-Control': 'no-store',
      ...headers,
    },
    body,
  };
}

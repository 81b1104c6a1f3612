import type { Decision } from '../../limits/decide/decision.js';

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
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array<ArrayBuffer>;
}

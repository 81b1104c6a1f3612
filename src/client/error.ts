/** What the client itself has to say; every other code is a node's, as its OpenAPI document lists them. */
export type ClientErrorCode =
  /** No node answered in time, or none that could; `cause` is what came of the last one asked. */
  | 'no_answer'
  /** More questions wait than `maxWaiting`. */
  | 'overloaded'
  /** The function that is to say the load has thrown: `cause`. */
  | 'no_load'
  /** `close` was called. */
  | 'closed';

interface ErrorMore {
  /** Of the answer, where there was one. */
  readonly status?: number | undefined;
  /** Path of the bad field, as in `limits[1].window`. */
  readonly field?: string | undefined;
  /** What the field may be. */
  readonly expected?: string | undefined;
}

/** Why there is no decision. A denial is one, and no error. */
export class TokenringError extends Error {
  override readonly name = 'TokenringError';
  /** Stable: `invalid_request`, `unknown_policy`, `unauthorized`, `no_answer` … */
  readonly code: string;
  readonly status: number | undefined;
  readonly field: string | undefined;
  readonly expected: string | undefined;

  constructor(code: string, message: string, more: ErrorMore = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.status = more.status;
    this.field = more.field;
    this.expected = more.expected;
  }
}

export function ownError(code: ClientErrorCode, message: string, cause?: unknown): TokenringError {
  return new TokenringError(code, message, {}, cause === undefined ? undefined : { cause });
}

/** The errors of the HTTP API, with stable code, status, and title. The library throws them too. */
export const HTTP_ERRORS = {
  invalid_json: { status: 400, title: 'The body is not valid JSON' },
  invalid_request: { status: 400, title: 'The request is not valid' },
  unknown_policy: { status: 400, title: 'No policy has this name' },
  policy_in_use: { status: 409, title: 'The policy is in use' },
  too_many_policies: { status: 409, title: 'There is no room for more policies, or for more clients in them' },
  unauthorized: { status: 401, title: 'The token is missing or unknown' },
  forbidden: { status: 403, title: 'The token does not allow this, or the node has none that does' },
  foreign_host: { status: 403, title: 'This node does not answer under this name' },
  foreign_origin: { status: 403, title: 'This node does not answer pages of other sites' },
  not_found: { status: 404, title: 'There is nothing at this address' },
  unknown_reservation: { status: 404, title: 'There is no such reservation, or it has expired' },
  method_not_allowed: { status: 405, title: 'This address does not take this method' },
  timeout: { status: 408, title: 'The request did not arrive in time' },
  precondition_failed: { status: 412, title: 'The policies have changed since' },
  too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body must be application/json, without a content encoding' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal: { status: 500, title: 'The node has failed' },
  gateway_unauthorized: {
    status: 500,
    title: 'The token of the gateway is missing or unknown, or does not allow this',
  },
  overloaded: { status: 503, title: 'There is too much to do; ask again in a moment' },
  unavailable: { status: 503, title: 'The node cannot answer now' },
  draining: { status: 503, title: 'The node is stopping' },
} as const satisfies Record<string, { status: number; title: string }>;

/** Every error of the API and the library. Errors that are not in `HTTP_ERRORS` arise in the calling process. */
const ERRORS = {
  ...HTTP_ERRORS,
  no_answer: { status: 503, title: 'No node has answered in time' },
  closed: { status: 503, title: 'The client or node is closed' },
  duplicate_id: { status: 503, title: 'Another node has the same id' },
  no_load: { status: 500, title: 'The function that reads the load has thrown' },
  unknown_error: { status: 500, title: 'The node answered with an error that this version does not know' },
} as const satisfies Record<string, { status: number; title: string }>;

export type HttpErrorCode = keyof typeof HTTP_ERRORS;
export type ErrorCode = keyof typeof ERRORS;

interface ErrorDetails {
  /** Path of the bad field, as in `limits[1].window`. */
  readonly field?: string | undefined;
  /** Valid values of the field. */
  readonly expected?: string | undefined;
  readonly detail?: string | undefined;
  /** The status that a node answered with. Default: the status of the code. */
  readonly status?: number | undefined;
  /** Place in a batch, from 0. */
  readonly item?: number | undefined;
  /** Ms until a node is tried again, if the client knows. */
  readonly retryAfterMs?: number | undefined;
}

/**
 * The reason why there is no decision. A denial is a decision, not an error.
 * Over HTTP this error is a `problem+json` body (RFC 9457). Node, client, and middleware throw it.
 */
export class TokenringError extends Error {
  override readonly name = 'TokenringError';
  /** Stable; callers branch on it. */
  readonly code: ErrorCode;
  /** HTTP status. */
  readonly status: number;
  /** Path of the bad field, as in `limits[1].window`. */
  readonly field: string | undefined;
  /** Valid values of the field. */
  readonly expected: string | undefined;
  /** The details of this error; empty if the title is enough. */
  readonly detail: string;
  /** Place of the request in its batch, from 0. */
  readonly item: number | undefined;
  /** Ms until a node is tried again, if the client knows. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, details: ErrorDetails = {}, options?: ErrorOptions) {
    const detail = details.detail ?? adviceOf(details);
    super(
      detail === '' ? ERRORS[code].title : `${ERRORS[code].title}: ${detail}`,
      options?.cause === undefined ? undefined : options,
    );
    this.code = code;
    this.status = details.status ?? ERRORS[code].status;
    this.field = details.field;
    this.expected = details.expected;
    this.detail = detail;
    this.item = details.item;
    this.retryAfterMs = details.retryAfterMs;
  }

  /** Returns the same error for one item of a batch. */
  of(item: number): TokenringError {
    const { code, status, field, expected, detail, retryAfterMs, cause } = this;
    return new TokenringError(code, { status, field, expected, detail, item, retryAfterMs }, { cause });
  }

  /** The `problem+json` body. */
  toJSON(): Record<string, string | number | undefined> {
    return {
      type: `urn:tokenring:problem:${this.code}`,
      code: this.code,
      status: this.status,
      title: ERRORS[this.code].title,
      detail: this.detail || undefined,
      field: this.field,
      expected: this.expected,
    };
  }
}

function adviceOf({ field, expected }: ErrorDetails): string {
  if (expected === undefined) return field ?? '';
  return field === undefined ? `use ${expected}` : `${field} is not valid; use ${expected}`;
}

/** @returns the code itself if this version knows it, else `unknown_error` */
export function knownCode(code: string): ErrorCode {
  return Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'unknown_error';
}

const UNCONNECTED = new Set<unknown>([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/**
 * Tells whether the code of a system or undici error means that there was no connection: the other side received
 * nothing.
 */
export function isUnconnected(code: unknown): code is string {
  return UNCONNECTED.has(code);
}

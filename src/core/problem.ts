/** Every error that the API answers: its stable code, its status and its title. */
export const PROBLEMS = {
  invalid_json: { status: 400, title: 'The body is not valid JSON' },
  invalid_request: { status: 400, title: 'The request is not valid' },
  unknown_policy: { status: 400, title: 'No policy has this name' },
  too_many_policies: { status: 409, title: 'There is no room for more policies, or for more clients in them' },
  unauthorized: { status: 401, title: 'The token is missing or unknown' },
  forbidden: { status: 403, title: 'The token does not allow this, or the node has none that does' },
  not_found: { status: 404, title: 'There is nothing at this address' },
  unknown_reservation: { status: 404, title: 'There is no such reservation, or it has stood for too long' },
  method_not_allowed: { status: 405, title: 'This address does not take this method' },
  timeout: { status: 408, title: 'The request did not arrive in time' },
  precondition_failed: { status: 412, title: 'The policies have changed since' },
  too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body must be application/json, without a content encoding' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal: { status: 500, title: 'The node made a mistake' },
  gateway_unauthorized: {
    status: 500,
    title: 'The token of the gateway is missing or unknown, or does not allow this',
  },
  overloaded: { status: 503, title: 'The node has too much to do: ask again in a moment, or another node' },
  unavailable: { status: 503, title: 'The node cannot answer now' },
  draining: { status: 503, title: 'The node is stopping' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

interface ProblemMore {
  /** Path of the bad field, as in `limits[1].window`. */
  readonly field?: string | undefined;
  /** What the field may be. */
  readonly expected?: string | undefined;
  readonly detail?: string | undefined;
}

/** An error for the caller: a `problem+json` body (RFC 9457) over HTTP, thrown as it is by the library. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly field: string | undefined;
  readonly expected: string | undefined;
  readonly detail: string;

  constructor(code: ProblemCode, more: ProblemMore = {}, options?: ErrorOptions) {
    const about = [more.field, more.expected && `expected ${more.expected}`].filter(Boolean).join(': ');
    const detail = more.detail ?? about;
    super(detail === '' ? PROBLEMS[code].title : `${PROBLEMS[code].title}: ${detail}`, options);
    this.code = code;
    this.field = more.field;
    this.expected = more.expected;
    this.detail = detail;
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }

  toJSON(): Record<string, string | number | undefined> {
    const { status, title } = PROBLEMS[this.code];
    return {
      type: `urn:tokenring:problem:${this.code}`,
      code: this.code,
      status,
      title,
      detail: this.detail || undefined,
      field: this.field,
      expected: this.expected,
    };
  }
}

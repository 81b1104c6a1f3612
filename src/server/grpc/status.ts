import type { TokenringError } from '../../lib/error.js';

/** The status codes of gRPC that this server answers (https://grpc.io/docs/guides/status-codes/). */
export const STATUS = {
  ok: 0,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

type StatusCode = (typeof STATUS)[keyof typeof STATUS];

/** Returns the status of an error. Errors that another node or a moment later may not have are `UNAVAILABLE`. */
export function statusOf({ code, status }: TokenringError): StatusCode {
  switch (code) {
    case 'invalid_request':
      return STATUS.invalidArgument;
    case 'not_found':
      return STATUS.notFound;
    case 'unknown_policy':
      return STATUS.failedPrecondition;
    case 'unauthorized':
      return STATUS.unauthenticated;
    case 'forbidden':
      return STATUS.permissionDenied;
    case 'too_large':
      return STATUS.resourceExhausted;
    case 'timeout':
      return STATUS.deadlineExceeded;
    default:
      return status === 503 ? STATUS.unavailable : STATUS.internal;
  }
}

/** Encodes a message for the trailer `grpc-message`: percent-encoded UTF-8, except for printable ASCII without `%`. */
export function statusMessage(text: string): string {
  return text.replace(/[^ -$&-~]+/g, (part) =>
    [...Buffer.from(part)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
}

const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** @returns the ms of a header `grpc-timeout`; `undefined` if there is none or it is not valid */
export function timeoutMs(header: unknown): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(typeof header === 'string' ? header : '') ?? [];
  return digits === undefined ? undefined : Number(digits) * UNIT_MS[unit!]!;
}

import { isUnconnected } from '../../lib/unconnected.js';

/** An error that etcd answered. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  /** @param code status code of gRPC */
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** Status codes of gRPC. */
const UNKNOWN = 2;
export const NOT_FOUND = 5;
export const NO_AUTH = 9;
export const UNAUTHENTICATED = 16;
/** Codes after which another member may answer: deadline exceeded, no resources, internal error, unavailable. */
const UNAVAILABLE = new Set([4, 8, 13, 14]);
/**
 * Codes that etcd answers before it executes anything: invalid argument, permission denied, authentication off,
 * unauthenticated. Code 8, no space, is not among them: etcd executes the write that fills it.
 */
const REFUSED = new Set([3, 7, NO_AUTH, UNAUTHENTICATED]);
/** Tells whether the request certainly was not executed and will not be: etcd did not receive it, or refused it. */
export function isUndone(error: unknown): boolean {
  if (error instanceof EtcdError) return REFUSED.has(error.code);
  return isUnconnected((error as { code?: unknown }).code);
}

/** Tells whether another member may answer: no connection, no answer in time, or an error of this member. */
export function isUnavailable(error: unknown): boolean {
  return !(error instanceof EtcdError) || UNAVAILABLE.has(error.code);
}

interface ErrorBody {
  readonly code?: number;
  readonly grpc_code?: number;
  readonly message?: string;
}

function hasError(answer: unknown): answer is { readonly error: ErrorBody } {
  return typeof answer === 'object' && answer !== null && typeof (answer as { error?: unknown }).error === 'object';
}

/** @returns the answer in the text of a response. @throws EtcdError, or Error for text that is not JSON */
export function readAnswer(status: number, text: string): unknown {
  if (!text.startsWith('{')) throw new EtcdError(UNKNOWN, `HTTP ${status}: ${text.slice(0, 200).trim()}`);
  const answer = parseJson(text);
  // Etcd streams some answers, so an error may come after status 200.
  if (status === 200 && !hasError(answer)) return answer;
  const body = hasError(answer) ? answer.error : (answer as ErrorBody);
  const code = body.code ?? body.grpc_code ?? (status === 401 ? UNAUTHENTICATED : UNKNOWN);
  throw new EtcdError(code, body.message ?? `HTTP ${status}`);
}

/** @throws Error for text that is not JSON */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`not JSON: ${text.slice(0, 100)}`, { cause });
  }
}

import type { Registration } from '../registry.js';
import { isOrigin } from '../../limits/origin.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { isUnconnected } from '../../lib/error.js';

/**
 * Keys of etcd, in base64: `PREFIXmembers/ID` for each member, `PREFIXpolicies`, and `PREFIXregistry` with the
 * registry's name.
 */
export interface Keys {
  readonly members: string;
  /** The first key after all members. */
  readonly membersEnd: string;
  readonly policies: string;
  /** The first key after `policies`. All keys that may change are between `members` and this one. */
  readonly policiesEnd: string;
  readonly registry: string;
  member(id: NodeId): string;
}

export function keysOf(prefix: string): Keys {
  const members = `${prefix}members/`;
  // '0' follows '/'.
  const membersEnd = `${prefix}members0`;
  return {
    members: base64(members),
    membersEnd: base64(membersEnd),
    policies: base64(`${prefix}policies`),
    policiesEnd: base64(`${prefix}policies\0`),
    registry: base64(`${prefix}registry`),
    member: (id) => base64(members + id),
  };
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** A key and its value in etcd's JSON: bytes in base64, integers as text, empty values left out. */
export interface KeyValue {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision?: string;
}

const STATES: readonly Registration['state'][] = ['joining', 'active', 'leaving'];
const NODE_ID = /^(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\]):[1-9]\d{0,4}$/;

export function encodeEntry({ incarnation, state, version, url }: Registration): string {
  return base64(JSON.stringify({ incarnation, state, version, url }));
}

/**
 * @returns `undefined` for an entry that no node has written. Other programs may write there, and this node connects to
 * the addresses that it reads.
 */
export function decodeEntry(kv: KeyValue): Registration | undefined {
  const id = idOf(kv);
  if (id === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(kv.value ?? '', 'base64').toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { incarnation, state, version, url = '' } = value as Record<string, unknown>;
  const known = STATES.find((one) => one === state);
  if (known === undefined || typeof version !== 'string' || version.length > 100) return undefined;
  if (typeof url !== 'string' || (url !== '' && !isOrigin(url))) return undefined;
  if (!Number.isSafeInteger(incarnation) || (incarnation as number) < 1) return undefined;
  return { id, incarnation: incarnation as number, state: known, version, url };
}

/** @returns `undefined` if the key is not that of a member */
export function idOf({ key }: KeyValue): NodeId | undefined {
  const text = Buffer.from(key, 'base64').toString('utf8');
  const id = text.slice(text.lastIndexOf('/') + 1);
  return NODE_ID.test(id) ? id : undefined;
}

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
  const answer = parsed(text);
  // Etcd streams some answers, so an error may come after status 200.
  if (status === 200 && !hasError(answer)) return answer;
  const body = hasError(answer) ? answer.error : (answer as ErrorBody);
  const code = body.code ?? body.grpc_code ?? (status === 401 ? UNAUTHENTICATED : UNKNOWN);
  throw new EtcdError(code, body.message ?? `HTTP ${status}`);
}

/** @throws Error for text that is not JSON */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`not JSON: ${text.slice(0, 100)}`, { cause });
  }
}

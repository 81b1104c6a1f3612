import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { Policies } from '../../../policy/active-policies.js';
import type { Check } from '../../../limits/decide/check.js';
import { badField, badValue, misplaced } from '../../../lib/mistake.js';
import { TokenringError } from '../../../lib/error.js';
import { readCheck } from '../../validate/request.js';

/** The way in which a gateway reads the answer to its sub-request. Every gateway passes the request on after a 200. */
export interface Gateway {
  /** Status of a denial. `TOKENRING_DENIED_STATUS` does not apply, because 200 would let the request pass. */
  readonly deniedStatus: 403 | 429;
  /** Whether the gateway's caller sees the body of a denial. A gateway that reads no body would hang up on one. */
  readonly showsBody: boolean;
  /** The method of the sub-request; `undefined` if it is the method of the request. */
  readonly method: 'GET' | undefined;
}

/**
 * - nginx, `auth_request`: 401 and 403 are denials. Anything else except 2xx is a fault and becomes 500. It reads only
 *   headers.
 * - forward auth, of Traefik, Caddy, APISIX, and others: anything except 2xx goes to the caller unchanged.
 *   `preserveRequestMethod` of Traefik asks with the method of the request.
 * - Envoy, `ext_authz` over HTTP: 5xx is a fault. Anything else except 200 goes to the caller. It asks with the method
 *   of the request, at its path behind a prefix.
 */
export const GATEWAYS = {
  nginx: { deniedStatus: 403, showsBody: false, method: 'GET' },
  forwardAuth: { deniedStatus: 429, showsBody: true, method: undefined },
  envoy: { deniedStatus: 429, showsBody: true, method: undefined },
} as const satisfies Record<string, Gateway>;

export type GatewayName = keyof typeof GATEWAYS;

const CLIENT = 'X-Tokenring-Client';
const CLIENT_FROM = 'X-Tokenring-Client-From';
const POLICY = 'X-Tokenring-Policy';
const COST = 'X-Tokenring-Cost';
const SCOPE = 'X-Tokenring-Scope';
/** A list of addresses. Each proxy appends the address of its caller, so the gateway wrote the last one. */
const FORWARDED_FOR = 'x-forwarded-for';

const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;
const DIGITS = /^\d{1,10}$/;

/** Finds the gateway of an address. Nothing is decoded, as the caller of the gateway chose the rest of the address. */
export function gatewayAt(url: string): GatewayName | undefined {
  if (!url.startsWith('/v1/check/')) return undefined;
  if (url === '/v1/check/nginx') return 'nginx';
  if (url === '/v1/check/forward-auth' || url === '/v1/check/traefik') return 'forwardAuth';
  // The path of a request follows, even if it is only `*`.
  return /^\/v1\/check\/envoy(?:[/?*]|$)/.test(url) ? 'envoy' : undefined;
}

/**
 * Reads the check from the headers of a sub-request. The headers are trusted, so the gateway must set them all. A
 * missing header has no default, as callers can make some gateways drop a header.
 * @throws TokenringError `invalid_request` that names the header and its valid values, `unknown_policy`
 */
export function readGatewayCheck(req: IncomingMessage, policies: Policies): Check {
  const policy = one(req, POLICY);
  if (policy === undefined) throw missing(POLICY, 'the name of a policy, set by the gateway');
  const cost = one(req, COST);
  if (cost !== undefined && !DIGITS.test(cost)) throw bad(COST, 'a whole number from 1 to 1000000000');
  const scopeBytes = one(req, SCOPE);
  const scope = scopeBytes === undefined ? undefined : decoded(SCOPE, scopeBytes);
  const client = headerOfClient(req);
  const value = client.toLowerCase() === FORWARDED_FOR ? lastOf(req.headers[FORWARDED_FOR]) : one(req, client);
  if (value === undefined || value === '') throw missing(client, '1 to 256 bytes of UTF-8, set by the gateway');
  const clientId = decoded(client, value);
  try {
    return readCheck({ clientId, scope, policy, cost: cost === undefined ? 1 : Number(cost) }, policies);
  } catch (error) {
    if (!(error instanceof TokenringError)) throw error;
    const header = { clientId: client, scope: SCOPE, policy: POLICY, cost: COST }[error.field ?? ''];
    if (header === undefined || error.expected === undefined) throw error;
    throw new TokenringError(error.code, badField(header, error.expected), { cause: error });
  }
}

/** Returns the name of the header whose value is the client. */
function headerOfClient(req: IncomingMessage): string {
  const from = one(req, CLIENT_FROM);
  if (from === undefined) return CLIENT;
  if (one(req, CLIENT) !== undefined)
    throw new TokenringError('invalid_request', misplaced(CLIENT, `beside ${CLIENT_FROM}`));
  if (!TOKEN.test(from)) throw bad(CLIENT_FROM, 'the name of a header');
  return from;
}

/** Returns the value of a header; `undefined` when there is none. */
function one(req: IncomingMessage, name: string): string | undefined {
  const key = name.toLowerCase();
  const value = Object.hasOwn(req.headers, key) ? req.headers[key] : undefined;
  if (typeof value !== 'string') return undefined;
  // Node joins the values of a repeated header. For some headers that HTTP defines, it takes the first value.
  const mayBeSeveral = value.includes(', ') || !key.startsWith('x-');
  if (mayBeSeveral && (req.headersDistinct[key]?.length ?? 1) > 1) throw bad(name, 'one such header');
  return value;
}

function lastOf(list: string | string[] | undefined): string {
  const text = String(list ?? '');
  return text.slice(text.lastIndexOf(',') + 1).trim();
}

/** Decodes a header as UTF-8, which node:http reads as Latin-1. Nothing else is decoded. */
function decoded(name: string, value: string): string {
  const bytes = Buffer.from(value, 'latin1');
  if (!isUtf8(bytes)) throw bad(name, 'UTF-8');
  return bytes.toString('utf8');
}

function bad(field: string, expected: string): TokenringError {
  return new TokenringError('invalid_request', badField(field, expected));
}

function missing(field: string, expected: string): TokenringError {
  return new TokenringError('invalid_request', badValue(field, undefined, expected));
}

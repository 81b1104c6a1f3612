import { TypeCompiler } from '@sinclair/typebox/compiler';
import type { ValueError } from '@sinclair/typebox/errors';
import { WITHOUT_POLICIES } from '../cluster/policies/active-policies.js';
import type { Policies } from '../cluster/policies/active-policies.js';
import { clientKey } from '../core/client-hash.js';
import { createCheck } from '../core/decide.js';
import type { Check } from '../core/decide.js';
import { parseDuration } from '../core/duration.js';
import type { Policy } from '../core/policy.js';
import type { AllowRequest, LimitRequest } from '../core/request.js';
import { ruleOf, sameBucket } from '../core/rule.js';
import type { Rule } from '../core/rule.js';
import { TokenringError } from '../core/error.js';
import { clientOf, newReservation } from './reservation.js';
import {
  AllowRequestSchema,
  BatchRequestSchema,
  MAX_CLIENT_ID_BYTES,
  MAX_REQUEST_ID_BYTES,
  SettleRequestSchema,
} from './schema.js';

const allowRequest = TypeCompiler.Compile(AllowRequestSchema);
const settleRequest = TypeCompiler.Compile(SettleRequestSchema);
const batchRequest = TypeCompiler.Compile(BatchRequestSchema);

/**
 * The check that a caller's value asks for.
 * @param policies those that it may name
 * @throws TokenringError `invalid_request` that names the field and what it may be, `unknown_policy`
 */
export function readCheck(value: unknown, policies: Policies = WITHOUT_POLICIES): Check {
  if (!allowRequest.Check(value)) throw invalid(allowRequest.Errors(value).First()!);
  requireClientId(value.clientId);
  if (value.requestId !== undefined) requireText('requestId', value.requestId, MAX_REQUEST_ID_BYTES);
  const { clientId, requestId, cost = 1, peek = false } = value;
  const { policy, rules } = readRules(value, policies);
  const replicated = value.durability === 'replicated' || policy?.replicated === true;
  const listed = policies.listed(clientId);
  if (value.reserve === true && peek) throw badField('reserve', 'none with peek, which takes nothing');
  const reservation = value.reserve === true ? newReservation(clientId, requestId) : undefined;
  const terms = policy === undefined && listed === undefined ? undefined : { policy, listed };
  return createCheck(clientKey(clientId), rules, { cost, peek, requestId, replicated, reservation, terms });
}

export interface SettleRequest {
  readonly clientId: string;
  readonly reservation: string;
  readonly cost: number;
}

/** @throws TokenringError `invalid_request` that names the field and what it may be */
export function readSettle(value: unknown): SettleRequest {
  if (!settleRequest.Check(value)) throw invalid(settleRequest.Errors(value).First()!);
  const { reservation, cost } = value;
  const clientId = clientOf(reservation);
  if (clientId === undefined) throw badField('reservation', 'one that an answer of /v1/allow has named');
  if (value.clientId !== undefined && value.clientId !== clientId)
    throw badField('clientId', 'whose reservation it is');
  return { clientId, reservation, cost };
}

/** @throws TokenringError when the batch as a whole is no list of 1 to 1000; its items are for `readCheck` */
export function readBatch(value: unknown): readonly unknown[] {
  if (!batchRequest.Check(value)) throw invalid(batchRequest.Errors(value).First()!);
  return value.requests;
}

interface Asked {
  readonly policy?: Policy;
  readonly rules: readonly Rule[];
}

/** The first field that only a limit in the request has. Each by name: a loop over names costs ten times as much. */
function ownFieldOf({ limit, window, windowMs, burst, algorithm }: AllowRequest): string | undefined {
  if (limit !== undefined) return 'limit';
  if (window !== undefined) return 'window';
  if (windowMs !== undefined) return 'windowMs';
  if (burst !== undefined) return 'burst';
  return algorithm === undefined ? undefined : 'algorithm';
}

function readRules(request: AllowRequest, policies: Policies): Asked {
  const { clientId, limits, policy } = request;
  const ownField = ownFieldOf(request);
  if (limits === undefined && policy === undefined) {
    const standard = ownField === undefined ? policies.resolve(clientId, undefined) : undefined;
    return standard ?? { rules: [readRule(request, '')] };
  }
  if (ownField !== undefined) throw badField(ownField, `none beside ${limits === undefined ? 'policy' : 'limits'}`);
  if (limits === undefined) {
    const named = policies.resolve(clientId, policy);
    if (named === undefined)
      throw new TokenringError('unknown_policy', { field: 'policy', expected: 'the name of a policy' });
    return named;
  }
  if (policy !== undefined) throw badField('policy', 'none beside limits');
  const rules = limits.map((limit, i) => readRule(limit, `limits[${i}].`));
  rules.forEach((rule, i) => {
    const twin = rules.findIndex((other) => sameBucket(other, rule));
    if (twin < i) throw badField(`limits[${i}].window`, `another window or algorithm than limits[${twin}]`);
  });
  return { rules };
}

function readRule(request: Partial<LimitRequest>, path: string): Rule {
  const { limit, window, windowMs: givenMs, burst, algorithm = 'token-bucket' } = request;
  if (limit === undefined) throw badField(`${path}limit`, path === '' ? 'a limit, or limits, or a policy' : 'a limit');
  if (window !== undefined && givenMs !== undefined) throw badField(`${path}windowMs`, 'none beside window');
  const windowMs = givenMs ?? (typeof window === 'string' ? parseDuration(window) : window);
  if (windowMs === undefined) throw badField(`${path}window`, EXPECTED_WINDOW);
  if (burst !== undefined && algorithm === 'sliding-window') {
    throw badField(`${path}burst`, 'none with sliding-window, which never lets more than limit pass');
  }
  return ruleOf(algorithm, limit, windowMs, burst ?? limit, undefined);
}

const EXPECTED_WINDOW = 'whole milliseconds or "250ms", "10s", "1m", "1h", "1d", from 1 ms to 366 d';

/** @throws TokenringError unless the text is 1 to 256 bytes of well-formed Unicode */
export function requireClientId(clientId: string): void {
  requireText('clientId', clientId, MAX_CLIENT_ID_BYTES);
}

function requireText(field: string, text: string, maxBytes: number): void {
  // A UTF-16 unit takes at most 3 bytes of UTF-8, so most texts need no counting.
  if (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes) throw badField(field, `1 to ${maxBytes} bytes`);
  // Lone surrogates have no UTF-8: two such ids would be the same client on the wire.
  if (!text.isWellFormed()) throw badField(field, 'well-formed Unicode');
}

function badField(field: string, expected: string): TokenringError {
  return new TokenringError('invalid_request', { field, expected });
}

/** What is wrong with a value, by the first thing that its schema says. */
export function invalid(error: ValueError): TokenringError {
  // `/limits/1/window` is the path of RFC 6901; people read `limits[1].window`.
  const field = error.path
    .slice(1)
    .replaceAll(/\/(\d+)(?=\/|$)/g, '[$1]')
    .replaceAll('/', '.')
    .replaceAll('~1', '/')
    .replaceAll('~0', '~');
  return new TokenringError('invalid_request', { field: field || 'body', expected: expectedOf(error) });
}

function expectedOf(error: ValueError): string {
  if (error.path.endsWith('/window')) return EXPECTED_WINDOW;
  const message = error.message.replace(/^Expected /, '');
  if (message === 'Unexpected property') return 'no such field';
  const options = (error.schema['anyOf'] as { const?: unknown }[] | undefined)?.map((option) =>
    JSON.stringify(option.const),
  );
  return options === undefined ? message : options.join(' or ');
}

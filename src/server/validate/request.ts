import { createHash, randomBytes } from 'node:crypto';
import { WITHOUT_POLICIES, type Policies } from '../../policy/active-policies.js';
import { clientKey } from '../../limits/ring/client-hash.js';
import { MAX_REQUEST_ID_BYTES } from '../../limits/format/checks.js';
import { createCheck, type Check, type CheckFields } from '../../limits/decide/check.js';
import { MAX_BATCH_ID_BYTES, MAX_BATCH, type AllowRequest, type LimitRequest } from '../../limits/request/request.js';
import { BESIDE_SLIDING_WINDOW, sameBucketTwice } from '../../policy/check-policy.js';
import { EXPECTED_CLIENT_ID, isClientId, isText } from '../../limits/client-id.js';
import { EXPECTED_WINDOW, parseDuration } from '../../limits/duration.js';
import { badValue, misplaced, type Mistake } from '../../lib/mistake.js';
import type { Policy } from '../../policy/policy.js';
import { EXPECTED_SCOPE, inScope, MAX_SCOPE_BYTES, ruleOf, sameBucket, type Rule } from '../../limits/bucket/rule.js';
import { TokenringError } from '../../lib/error.js';
import { AllowRequestSchema, BatchIdSchema, BatchRequestSchema, SettleRequestSchema } from './schema.js';
import { Validator } from './validator.js';

const allowRequest = new Validator(AllowRequestSchema);
const settleRequest = new Validator(SettleRequestSchema);
const batchRequest = new Validator(BatchRequestSchema);
const batchId = new Validator(BatchIdSchema);

/**
 * Reads the check that a caller asks for.
 * @param policies the policies that it may name
 * @param itemId its request id if it has none of its own; a check that consumes nothing needs none
 * @throws TokenringError `invalid_request` that names the field and its valid values, `unknown_policy`
 */
export function readCheck(value: unknown, policies: Policies = WITHOUT_POLICIES, itemId?: string): Check {
  const request = allowRequest.read(value);
  const { clientId, scope, cost = 1, peek = false } = request;
  requireClientId(clientId);
  if (request.requestId !== undefined && !isText(request.requestId, MAX_REQUEST_ID_BYTES))
    throw bad(badValue('requestId', request.requestId, EXPECTED_REQUEST_ID));
  if (scope !== undefined && !isText(scope, MAX_SCOPE_BYTES)) throw bad(badValue('scope', scope, EXPECTED_SCOPE));
  const { requestId = peek ? undefined : itemId } = request;
  const { policy, rules } = readRules(request, policies);
  const replicated = request.durability === 'replicated' || policy?.replicated === true;
  const listed = policies.listed(clientId);
  if (request.reserve === true && peek) throw bad(misplaced('reserve', 'with peek, which consumes nothing'));
  const reservation = request.reserve === true ? newReservation(clientId, requestId) : undefined;
  const terms = policy === undefined && listed === undefined ? undefined : { policy, listed };
  return createCheck(clientKey(clientId), inScope(rules, scope), {
    cost,
    peek,
    requestId,
    replicated,
    reservation,
    terms,
    trace: undefined,
  } satisfies CheckFields);
}

export interface SettleRequest {
  readonly clientId: string;
  readonly reservation: string;
  readonly cost: number;
}

/** @throws TokenringError `invalid_request` that names the field and its valid values */
export function readSettle(value: unknown): SettleRequest {
  const request = settleRequest.read(value);
  const { reservation, cost } = request;
  const clientId = clientOf(reservation);
  if (clientId === undefined)
    throw bad(badValue('reservation', reservation, 'the name from an answer of /v1/allow', 'a reservation'));
  if (request.clientId !== undefined && request.clientId !== clientId)
    throw bad(
      badValue('clientId', request.clientId, 'the client that the reservation names, or leave it out', 'its client'),
    );
  return { clientId, reservation, cost };
}

const RESERVATION = /^([A-Za-z0-9_-]{2,342})\.([A-Za-z0-9_-]{24})$/;

/**
 * Creates the name of a reservation. It contains the client id, so that any node can settle it. The same request id
 * gives the same name, so a repeated request gets the first decision and its reservation again.
 */
export function newReservation(clientId: string, requestId: string | undefined): string {
  const unique =
    requestId === undefined
      ? randomBytes(18)
      : createHash('sha256')
          .update(JSON.stringify([clientId, requestId]))
          .digest()
          .subarray(0, 18);
  return `${Buffer.from(clientId).toString('base64url')}.${unique.toString('base64url')}`;
}

/** Reads the client id from a reservation; `undefined` for any other text. */
function clientOf(reservation: string): string | undefined {
  const name = RESERVATION.exec(reservation)?.[1];
  if (name === undefined) return undefined;
  const bytes = Buffer.from(name, 'base64url');
  const clientId = bytes.toString('utf8');
  // A text that does not encode back to itself could name another client.
  return bytes.length <= 256 && Buffer.from(clientId).equals(bytes) && bytes.toString('base64url') === name
    ? clientId
    : undefined;
}

/** A batch whose items are still to be validated. */
interface UnreadBatch {
  readonly requests: readonly unknown[];
  readonly requestId?: string;
}

/** @throws TokenringError unless the batch is a list of 1 to 1000 items; `readCheck` validates the items */
export function readBatch(value: unknown): UnreadBatch {
  if (batchRequest.fits(value)) return value;
  const { requests, requestId } = Object(value) as { requests?: unknown; requestId?: unknown };
  if (requestId !== undefined && !batchId.fits(requestId))
    throw bad(badValue('requestId', requestId, EXPECTED_BATCH_ID));
  // The search for errors looks at each item, however many there are.
  const short = Array.isArray(requests) ? { ...(value as object), requests: requests.slice(0, MAX_BATCH + 1) } : value;
  throw batchRequest.problemOf(short);
}

interface ResolvedRules {
  readonly policy?: Policy;
  readonly rules: readonly Rule[];
}

/**
 * Finds the first field of a limit in the request itself. The code names each field, as a loop costs ten times as much.
 */
function ownFieldOf({ limit, window, windowMs, burst, algorithm }: AllowRequest): string | undefined {
  if (limit !== undefined) return 'limit';
  if (window !== undefined) return 'window';
  if (windowMs !== undefined) return 'windowMs';
  if (burst !== undefined) return 'burst';
  return algorithm === undefined ? undefined : 'algorithm';
}

function readRules(request: AllowRequest, policies: Policies): ResolvedRules {
  const { clientId, limits, policy } = request;
  const ownField = ownFieldOf(request);
  if (limits === undefined && policy === undefined) {
    const standard = ownField === undefined ? policies.resolve(clientId, undefined) : undefined;
    return standard ?? { rules: [readRule(request, '')] };
  }
  if (ownField !== undefined) throw bad(misplaced(ownField, `beside ${limits === undefined ? 'policy' : 'limits'}`));
  if (limits === undefined) {
    const named = policies.resolve(clientId, policy);
    const expected = policies.isEmpty() ? NO_POLICIES_YET : EXPECTED_POLICY;
    if (named === undefined)
      throw new TokenringError('unknown_policy', badValue('policy', policy, expected, 'a policy'));
    return named;
  }
  if (policy !== undefined) throw bad(misplaced('policy', 'beside limits'));
  const rules = limits.map((limit, i) => readRule(limit, `limits[${i}].`));
  rules.forEach((rule, i) => {
    const twin = rules.findIndex((other) => sameBucket(other, rule));
    if (twin < i) throw bad(sameBucketTwice(`limits[${i}].window`, twin));
  });
  return { rules };
}

function readRule(request: Partial<LimitRequest>, path: string): Rule {
  const { limit, window, windowMs: givenMs, burst, algorithm = 'token-bucket' } = request;
  if (limit === undefined)
    throw bad(badValue(`${path}limit`, limit, path === '' ? 'a limit, limits, or a policy' : 'a limit'));
  if (window !== undefined && givenMs !== undefined) throw bad(misplaced(`${path}windowMs`, 'beside window'));
  const windowMs = givenMs ?? (typeof window === 'string' ? parseDuration(window) : window);
  if (windowMs === undefined) throw bad(badValue(`${path}window`, window, EXPECTED_WINDOW, 'a duration'));
  if (burst !== undefined && algorithm === 'sliding-window') {
    throw bad(misplaced(`${path}burst`, BESIDE_SLIDING_WINDOW));
  }
  return ruleOf(algorithm, limit, windowMs, burst ?? limit, undefined);
}

const EXPECTED_REQUEST_ID = `1 to ${MAX_REQUEST_ID_BYTES} bytes of well-formed Unicode`;
const EXPECTED_BATCH_ID = `1 to ${MAX_BATCH_ID_BYTES} printable ASCII characters without quotes and backslashes`;
const EXPECTED_POLICY = 'a name that GET /v1/policies lists';
const NO_POLICIES_YET =
  'a policy file (TOKENRING_POLICIES, createNode({ policies })) or a PUT, as no policies are loaded';

/** @throws TokenringError unless the text is 1 to 256 bytes of well-formed Unicode */
export function requireClientId(clientId: string): void {
  if (!isClientId(clientId)) throw bad(badValue('clientId', clientId, EXPECTED_CLIENT_ID, 'a client id'));
}

function bad(mistake: Mistake): TokenringError {
  return new TokenringError('invalid_request', mistake);
}

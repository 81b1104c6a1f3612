import { badValue } from '../../../lib/mistake.js';
import { DURATION_BOUNDS, SOURCES } from '../../../limits/decide/decision.js';
import { EXPECTED_WINDOW } from '../../../limits/duration.js';
import { TokenringError, type HttpErrorCode } from '../../../lib/error.js';
import { newReservation } from '../../validate/request.js';

/**
 * The examples of the OpenAPI document. A test sends each one to a node that has just started, the writes of policies
 * first and deletions last, and compares the answers.
 */

/** Examples of one body by name. An answer has the name of the request that it belongs to. */
export type Examples = Readonly<Record<string, unknown>>;

const OWNER = '10.0.0.1:9080';
const byOwner = { owner: OWNER, source: 'owner', degraded: false };
const HOUR_MS = 3_600_000;

/** The client and the policy of the addresses. */
export const CLIENT = 'alice';
export const POLICY = 'api';
/** The client whose id gateways send. */
export const CALLER = '203.0.113.7';

const reserved = { clientId: 'dave', limit: 1000, window: '1h', cost: 100, reserve: true, requestId: 'job-7' };
const reservation = newReservation(reserved.clientId, reserved.requestId);

export const ALLOW: Examples = {
  'one limit': { clientId: CLIENT, limit: 100, window: '1h' },
  'several limits': {
    clientId: 'bob',
    limits: [
      { limit: 10, window: '1s' },
      { limit: 1000, window: '1d', algorithm: 'sliding-window' },
    ],
  },
  'a policy': { clientId: 'carol', policy: POLICY, cost: 5 },
  'a reserved cost': reserved,
  'more than is left': { clientId: CLIENT, limit: 100, window: '1h', cost: 100 },
};

export const ALLOWED: Examples = {
  'one limit': { allowed: true, limit: 100, remaining: 99, retryAfterMs: 0, resetMs: 36_000, ...byOwner },
  'several limits': {
    allowed: true,
    limit: 10,
    remaining: 9,
    retryAfterMs: 0,
    resetMs: 86_400_000,
    ...byOwner,
    limits: [
      { algorithm: 'token-bucket', windowMs: 1000, limit: 10, remaining: 9, retryAfterMs: 0, resetMs: 100 },
      {
        algorithm: 'sliding-window',
        windowMs: 86_400_000,
        limit: 1000,
        remaining: 999,
        retryAfterMs: 0,
        resetMs: 86_400_000,
      },
    ],
  },
  'a policy': { allowed: true, limit: 600, remaining: 95, retryAfterMs: 0, resetMs: 500, ...byOwner },
  'a reserved cost': {
    allowed: true,
    limit: 1000,
    remaining: 900,
    retryAfterMs: 0,
    resetMs: 360_000,
    ...byOwner,
    reservation,
  },
};

export const DENIED: Examples = {
  'more than is left': { allowed: false, limit: 100, remaining: 99, retryAfterMs: 36_000, resetMs: 36_000, ...byOwner },
};

export const BATCH = {
  requests: [
    { clientId: 'grace', limit: 5, window: '1s' },
    { clientId: 'grace', policy: 'nowhere' },
  ],
};

const unknownPolicy = badValue('policy', 'nowhere', 'a name that GET /v1/policies lists', 'a policy');

const notADuration = new TokenringError('invalid_request', badValue('window', 'banana', EXPECTED_WINDOW, 'a duration'));

export const BATCH_ANSWER = {
  results: [
    { allowed: true, limit: 5, remaining: 4, retryAfterMs: 0, resetMs: 200, ...byOwner },
    { error: new TokenringError('unknown_policy', unknownPolicy).toJSON() },
  ],
};

export const SETTLE = { reservation, cost: 40 };
export const SETTLEMENT = {
  reservation,
  clientId: reserved.clientId,
  cost: 40,
  reserved: reserved.cost,
  limit: 1000,
  remaining: 960,
  resetMs: 144_000,
};

export const GATEWAY_ALLOWED = { allowed: true, limit: 600, remaining: 99, retryAfterMs: 0, resetMs: 100 };
export const GATEWAY_DENIED = { allowed: false, limit: 600, remaining: 0, retryAfterMs: 100, resetMs: 10_000 };

export const CLIENT_BUCKETS = {
  clientId: CLIENT,
  owner: OWNER,
  buckets: [{ algorithm: 'token-bucket', windowMs: HOUR_MS, limit: 100, remaining: 99, resetMs: 36_000 }],
};

/** An entry of the policies: a PUT, its answer, and the answer of a DELETE. */
export interface EntryExamples {
  readonly sent: object;
  readonly found: object;
  readonly deleted: object;
}

function entry(own: object, sent: object, version: number): EntryExamples {
  return { sent, found: { ...own, ...sent, version }, deleted: { ...own, version: version + 3 } };
}

const limits = {
  tiers: { free: { limit: 600, window: '1m', burst: 100 }, pro: { limit: 6000, window: '1m' } },
  defaultTier: 'free',
  adaptive: { target: 0.7, min: 0.2 },
};

export const POLICY_ENTRY = entry({ name: POLICY }, limits, 1);
export const OVERRIDE_ENTRY = entry({ clientId: CLIENT, policy: POLICY }, { limit: 1200 }, 2);
export const TIER_ENTRY = entry({ clientId: CLIENT }, { tier: 'pro' }, 3);
export const POLICIES = { version: 3, policies: { [POLICY]: limits } };

export const LOAD_REPORT = { load: 0.55 };
export const LOAD = { name: POLICY, factor: 1 };

export const CLUSTER = {
  self: OWNER,
  ringChecksum: 'c2ad4b3f6d1e5a90',
  members: [{ id: OWNER, state: 'active', share: 1, version: '0.1.0', incarnation: 1, silentMs: 0 }],
};

export const OWNER_OF_CLIENT = { clientId: CLIENT, owner: OWNER, successors: [], point: 0.9103217145893723 };

export const DENIAL_REPORT = { denied: 3, clients: [{ clientId: CLIENT, denied: 2 }] };

export const TOP = {
  by: 'denied',
  span: 'minute',
  spanMs: 60_000,
  clients: [{ clientId: CLIENT, count: 3, error: 0, source: { node: 1, sdk: 2 } }],
  missing: [],
};

const counts = (owner: number): object => Object.fromEntries(SOURCES.map((one) => [one, one === 'owner' ? owner : 0]));

export const STATS = {
  members: [
    {
      id: OWNER,
      stats: {
        allowed: counts(40),
        denied: counts(2),
        problems: 1,
        durations: [...DURATION_BOUNDS.map((_bound, i) => (i === 0 ? 42 : 0)), 0],
        busyMs: 12.5,
        uptimeMs: 60_000,
        memoryBytes: 80_000_000,
        memoryBudgetBytes: 512_000_000,
        clients: 6,
        replicationLagMs: 0,
        forwardsWaiting: 0,
      },
    },
  ],
};

export const EVENTS = 'retry: 1000\n';

/** The change of one entry of the policies that was not there before. */
function changed(version: number, key: string, value: unknown): object {
  const who = { token: 'TOKENRING_ADMIN_TOKEN', address: '127.0.0.1' };
  const values = { before: { [key]: null }, after: { [key]: value } };
  return { atMs: 1_800_000_000_000, who, ...values, what: 'policies changed', target: `version ${version}` };
}

export const AUDIT = {
  changes: [
    changed(3, `tier ${CLIENT}`, 'pro'),
    changed(2, `override ${POLICY} ${CLIENT}`, { limit: 1200 }),
    changed(1, `policy ${POLICY}`, limits),
  ],
};

export const METRICS = '# TYPE tokenring_decisions_total counter\n';
export const openApiExample = (version: string): object => {
  return { openapi: '3.1.0', info: { title: 'Tokenring', version }, paths: {} };
};

/** Returns an example of a problem. */
export function problemExample(code: HttpErrorCode): object {
  return (code === 'invalid_request' ? notADuration : new TokenringError(code)).toJSON();
}

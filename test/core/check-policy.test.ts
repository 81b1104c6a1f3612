import { expect } from 'chai';
import { checkLimits, checkOverride, checkPolicy, isPolicyName } from '../../src/policy/check-policy.js';
import { checkPolicyFile, entriesOf } from '../../src/policy/policy-file.js';
import type { PolicyText } from '../../src/policy/policy.js';
import type { Mistake } from '../../src/lib/mistake.js';

const ONE = { limit: 1, window: '1m' } as const;
const DURATION = 'use whole milliseconds or "250ms", "10s", "1m", "1h", "1d", from 1 ms to 366 d';
const NAME = 'use letters, digits, "_", ".", ":" and "-", at most 128 of them';
const LIMIT_FIELDS = 'limit, window, windowMs, burst, algorithm, limits';
const POLICY_FIELDS = 'tiers, defaultTier, onUnavailable, durability, shadow, adaptive';
const PART = 'use a number above 0, at most 1';
const tiers = (count: number): object => Object.fromEntries([...Array(count).keys()].map((i) => [`t${i}`, ONE]));
const adaptive = (more: object): object => ({ ...ONE, adaptive: { target: 0.7, min: 0.1, ...more } });
const details = (mistakes: readonly Mistake[]): string[] => mistakes.map(({ detail }) => detail);

type Rows = readonly (readonly [value: unknown, ...details: string[]])[];

const POLICIES: Rows = [
  [null, 'body: null is not valid; use an object'],
  [[], 'body: a list is not valid; use an object'],
  [{ ...ONE, onUnavailble: 'open' }, 'unknown field "onUnavailble"; did you mean "onUnavailable"?'],
  [{ ...ONE, zzz: 1 }, `unknown field "zzz"; use one of ${LIMIT_FIELDS}, ${POLICY_FIELDS}`],
  [{ ...ONE, defaultTier: 'free' }, 'defaultTier is not allowed without tiers; remove it'],
  [
    { limit: 4, zzz: 1, tiers: tiers(1), defaultTier: 't0' },
    'limit is not allowed beside tiers; remove it',
    `unknown field "zzz"; use one of ${POLICY_FIELDS}`,
  ],
  [{ ...ONE, onUnavailable: 'fail' }, 'onUnavailable: "fail" is not valid; use "local" or "open" or "closed"'],
  [{ ...ONE, durability: 'disk' }, 'durability: "disk" is not valid; use "async" or "replicated"'],
  [{ ...ONE, shadow: 'yes' }, 'shadow: "yes" is not valid; use true or false'],
  [{ tiers: [], defaultTier: 'free' }, 'tiers: a list is not valid; use an object of limits by tier'],
  [
    { tiers: {}, defaultTier: 'free' },
    'tiers: an object is not valid; use 1 to 32 tiers',
    'defaultTier: "free" is not a tier; use one of the tiers, for clients that have none of them',
  ],
  [{ tiers: tiers(33), defaultTier: 't0' }, 'tiers: an object is not valid; use 1 to 32 tiers'],
  [{ tiers: { 'a b': ONE }, defaultTier: 'a b' }, `tiers.a b: "a b" is not a name; ${NAME}`],
  [{ tiers: tiers(1) }, 'defaultTier is missing; use one of the tiers, for clients that have none of them'],
  [
    { tiers: { 5: ONE }, defaultTier: 5 },
    'defaultTier: 5 is not a tier; use one of the tiers, for clients that have none of them',
  ],
  [
    { tiers: { free: { limit: 1.5, window: '1m', zzz: 1 } }, defaultTier: 'free' },
    'tiers.free.limit: 1.5 is not valid; use a whole number from 0 to 1000000000',
    `tiers.free: unknown field "zzz"; use one of ${LIMIT_FIELDS}`,
  ],
  [{ ...ONE, adaptive: 5 }, 'adaptive: 5 is not valid; use an object with target and min'],
  [{ ...ONE, adaptive: {} }, `adaptive.target is missing; ${PART}`, `adaptive.min is missing; ${PART}`],
  [
    adaptive({ target: 1.1, min: 0, errors: -1 }),
    `adaptive.target: 1.1 is not valid; ${PART}`,
    `adaptive.min: 0 is not valid; ${PART}`,
    `adaptive.errors: -1 is not valid; ${PART}`,
  ],
  [adaptive({ target: '0.7' }), `adaptive.target: "0.7" is not valid; ${PART}`],
  ...[0, 3_600_001, '5'].map((latencyMs): [object, string] => [
    adaptive({ latencyMs }),
    `adaptive.latencyMs: ${JSON.stringify(latencyMs)} is not valid; use milliseconds above 0, at most an hour`,
  ]),
  [adaptive({ latency: 5 }), 'adaptive: unknown field "latency"; did you mean "latencyMs"?'],
  [adaptive({ zzz: 5 }), 'adaptive: unknown field "zzz"; use one of target, min, latencyMs, errors'],
  [ONE],
  ...['local', 'open', 'closed'].map((onUnavailable): [object] => [{ ...ONE, onUnavailable }]),
  ...['async', 'replicated'].map((durability): [object] => [{ ...ONE, durability }]),
  ...[true, false].map((shadow): [object] => [{ ...ONE, shadow }]),
  [{ tiers: tiers(32), defaultTier: 't31' }],
  [adaptive({ target: 1, min: 1, errors: 1, latencyMs: 3_600_000 })],
  [adaptive({ errors: 0.001, latencyMs: 0.5 })],
];

const LIMITS: Rows = [
  [null, 'body: null is not valid; use an object with a limit'],
  [{}, 'limit is missing; use a whole number from 0 to 1000000000', `window is missing; ${DURATION}`],
  [{ limit: -1, window: 1 }, 'limit: -1 is not valid; use a whole number from 0 to 1000000000'],
  [{ limit: 1e9 + 1, window: 1 }, 'limit: 1000000001 is not valid; use a whole number from 0 to 1000000000'],
  [{ limit: 1, window: '1 minute' }, `window: "1 minute" is not a duration; ${DURATION}`],
  [{ limit: 1, window: 0 }, `window: 0 is not a duration; ${DURATION}`],
  [{ limit: 1, window: 31_622_400_001 }, `window: 31622400001 is not a duration; ${DURATION}`],
  [{ ...ONE, windowMs: 60_000 }, 'windowMs is not allowed beside window; remove it'],
  [{ limit: 1, windowMs: 0 }, 'windowMs: 0 is not valid; use whole milliseconds from 1 to 31622400000'],
  [{ limit: 1, windowMs: '5' }, 'windowMs: "5" is not valid; use whole milliseconds from 1 to 31622400000'],
  [{ ...ONE, burst: 0 }, 'burst: 0 is not valid; use a whole number from 1 to 1000000000'],
  [{ ...ONE, algorithm: 'leaky' }, 'algorithm: "leaky" is not valid; use "token-bucket" or "sliding-window"'],
  [
    { ...ONE, burst: 5, algorithm: 'sliding-window' },
    'burst is not allowed with sliding-window, which never admits more than limit; remove it',
  ],
  [{ ...ONE, zzz: 1 }, `unknown field "zzz"; use one of ${LIMIT_FIELDS}`],
  [
    { limits: [ONE], limit: 1, zzz: 1 },
    'limit is not allowed beside limits; remove it',
    `unknown field "zzz"; use one of ${LIMIT_FIELDS}`,
  ],
  [{ limits: [] }, 'limits: a list is not valid; use 1 to 8 limits'],
  [{ limits: 5 }, 'limits: 5 is not valid; use 1 to 8 limits'],
  [{ limits: { length: 1 } }, 'limits: an object is not valid; use 1 to 8 limits'],
  [
    { limits: [...Array(9).keys()].map((i) => ({ limit: 1, windowMs: i + 1 })) },
    'limits: a list is not valid; use 1 to 8 limits',
  ],
  [
    { limits: [ONE, null, { limit: 1 }, { limits: [ONE], ...ONE }] },
    'limits[1]: null is not valid; use an object with a limit',
    `limits[2].window is missing; ${DURATION}`,
    'limits[3]: unknown field "limits"; did you mean "limit"?',
  ],
  [
    { limits: [ONE, { limit: 2, windowMs: 60_000 }] },
    'limits[1].window: the same window and algorithm as limits[0]; use another of them',
  ],
  [
    {
      limits: [
        { limit: 1 },
        { limit: 1, window: 60_000, algorithm: 'sliding-window' },
        ONE,
        { limit: 9, window: '60s', algorithm: 'sliding-window' },
      ],
    },
    `limits[0].window is missing; ${DURATION}`,
    'limits[3].window: the same window and algorithm as limits[1]; use another of them',
  ],
  [{ limit: 0, window: 1, burst: 1, algorithm: 'token-bucket' }],
  [{ limit: 1e9, windowMs: 31_622_400_000, burst: 1e9 }],
  [{ limits: [...Array(8).keys()].map((i) => ({ limit: 1, window: i + 1 })) }],
];

const FILES: Rows = [
  [null, 'file: null is not valid; use an object with policies'],
  [{ zzz: 1 }, 'unknown field "zzz"; use one of policies, default, clients, allow, deny, envoy'],
  [{ policies: 5 }, 'policies: 5 is not valid; use an object of policies by name'],
  [{ policies: { 'a b': ONE } }, `policies.a b: "a b" is not a name; ${NAME}`],
  [{ default: 'x' }, 'default: "x" is not a policy; use the name of a policy of this file'],
  [{ policies: { 5: ONE }, default: 5 }, 'default: 5 is not a policy; use the name of a policy of this file'],
  [{ clients: 5 }, 'clients: 5 is not valid; use an object by client id'],
  [{ clients: { '': {} } }, 'clients.: "" is not a client id; use 1 to 256 bytes of well-formed Unicode'],
  [{ clients: { a: 7 } }, 'clients.a: 7 is not valid; use an object with tier or overrides'],
  [
    { clients: { a: { tier: '', zzz: 1 } } },
    'clients.a: unknown field "zzz"; use one of tier, overrides',
    `clients.a.tier: "" is not a name; ${NAME}`,
  ],
  [{ clients: { a: { overrides: 5 } } }, 'clients.a.overrides: 5 is not valid; use an object of limits by policy'],
  [
    { clients: { a: { overrides: { x: ONE } } } },
    'clients.a.overrides.x: "x" is not a policy; use the name of a policy of this file',
  ],
  [{ allow: 5, deny: ['x'] }, 'allow: 5 is not valid; use a list of client ids'],
  [
    { allow: ['x', ''], deny: ['y', 'x', 5] },
    'allow[1]: "" is not a client id; use 1 to 256 bytes of well-formed Unicode',
    'deny[1]: the client is in allow too; remove it from one of the lists',
    'deny[2]: 5 is not a client id; use 1 to 256 bytes of well-formed Unicode',
  ],
  [{}],
  [{ policies: { p: ONE }, default: 'p', clients: { a: { tier: 'pro' }, b: {} }, allow: ['x'], deny: ['y'] }],
];

describe('the mistakes in what people write', () => {
  for (const [what, check, rows] of [
    ['a policy', checkPolicy, POLICIES],
    ['limits', checkLimits, LIMITS],
    ['a policy file', checkPolicyFile, FILES],
  ] as const) {
    it(`as ${what} are all named, with what to use instead, and nothing else is`, () => {
      for (const [value, ...expected] of rows) expect(details(check(value))).to.deep.equal(expected);
    });
  }

  it('have the path of their object before them', () => {
    const at = (value: unknown): string[] => checkPolicy(value, 'policies.p').map(({ field }) => field);
    expect(at(5)).to.deep.equal(['policies.p']);
    expect(at({ limits: [5], x: 1 })).to.deep.equal(['policies.p.x', 'policies.p.limits[0]']);
    expect(at({ tiers: { t: 5 }, y: 1 })).to.deep.equal([
      'policies.p.y',
      'policies.p.tiers.t',
      'policies.p.defaultTier',
    ]);
  });

  it('in an override are those of its limits, and of a window that its policy cannot give', () => {
    const two = { limits: [ONE, { limit: 5, window: '1h' }] };
    const rows: readonly [value: unknown, policy: PolicyText | undefined, ...details: string[]][] = [
      [{ limit: 5 }, ONE],
      [{ limit: 5, burst: 9 }, ONE],
      [{ limit: 5 }, { limits: [ONE] }],
      [{ limit: 5 }, undefined],
      [{ limit: 5, window: '1s' }, two],
      [{ limit: 5, windowMs: 1 }, two],
      [two, two],
      [{ limit: 5 }, { tiers: { a: ONE, b: { limits: [ONE] } }, defaultTier: 'a' }],
      [{ limit: 5 }, two, 'window is missing; use a window, as the policy has several limits'],
      [
        { limit: 5 },
        { tiers: { a: ONE, b: two }, defaultTier: 'a' },
        'window is missing; use a window, as the policy has several limits',
      ],
      [{ limit: -5 }, two, 'limit: -5 is not valid; use a whole number from 0 to 1000000000'],
      [{ limit: 5, algorithm: 'sliding-window' }, ONE, 'algorithm is not allowed without a window; remove it'],
      [{ limits: [{ limit: 1 }] }, two, `limits[0].window is missing; ${DURATION}`],
    ];
    for (const [value, policy, ...expected] of rows) {
      expect(details(checkOverride(value, policy)), JSON.stringify(value)).to.deep.equal(expected);
    }
    expect(checkOverride({ limit: 5 }, two, 'o')[0]!.field).to.equal('o.window');
  });
});

describe('the name of a policy', () => {
  it('is 1 to 128 letters, digits, and a few signs, and does not begin with most of these', () => {
    for (const name of ['a', '_', '7', 'login.v2:eu-west_1', 'x'.repeat(128)]) {
      expect(isPolicyName(name), name).to.equal(true);
    }
    for (const name of ['', '.a', '-a', ':a', 'a b', 'a/b', 'é', 'a\n', 'x'.repeat(129), 5, ['a']]) {
      expect(isPolicyName(name), String(name)).to.equal(false);
    }
  });
});

describe('a policy file', () => {
  it('becomes one entry for each policy, tier, override, and client of a list', () => {
    const rules = [{ entries: ['user'], policy: 'p' }];
    const file = {
      policies: { p: ONE },
      default: 'p',
      clients: { a: { tier: 'pro', overrides: { p: { limit: 7 } } }, b: {} },
      allow: ['x'],
      deny: ['y'],
      envoy: { edge: rules },
    };
    expect([...entriesOf(file)]).to.deep.equal([
      ['policy p', ONE],
      ['default', 'p'],
      ['tier a', 'pro'],
      ['override p a', { limit: 7 }],
      ['list x', 'allow'],
      ['list y', 'deny'],
      ['envoy edge', rules],
    ]);
    expect([...entriesOf({})]).to.deep.equal([]);
  });
});

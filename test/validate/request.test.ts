import { expect } from 'chai';
import fc from 'fast-check';
import { TokenringError } from '../../src/lib/error.js';
import type { Check } from '../../src/limits/decide/check.js';
import type { AllowRequest } from '../../src/limits/request/request.js';
import { readCheck } from '../../src/server/validate/request.js';
import { ActivePolicies, type Policies } from '../../src/policy/active-policies.js';
import { change, NO_DOCUMENT } from '../../src/policy/policy-document.js';
import { entriesOf, type PolicyFileText } from '../../src/policy/policy-file.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { complaints, windowMsOf } from '../http/slow-validator.js';

function policiesOf(file: PolicyFileText): Policies {
  const policies = new ActivePolicies((_, rules) => rules);
  policies.adopt(change(NO_DOCUMENT, entriesOf(file), 'a:1'));
  return policies;
}

const DAYS_366 = 366 * 24 * 60 * 60 * 1000;

/** Values at and around every bound, and of every wrong type. */
const numbers = fc.oneof(
  fc.integer({ min: 1, max: 50 }),
  fc.constantFrom(0, -0, 1, 2, 1e9, 1e9 + 1, DAYS_366, DAYS_366 + 1),
  fc.constantFrom(-1, 0.5, NaN, Infinity, -Infinity, 2 ** 53, 1e300),
);
const junk = fc.constantFrom<unknown>(undefined, null, true, false, '', '1', 'x', [], {}, [1], { limit: 1 }, 7n);
const rarely = (valid: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 24, arbitrary: valid }, { weight: 1, arbitrary: junk }, { weight: 1, arbitrary: numbers });
const whole = fc.oneof({ weight: 19, arbitrary: fc.integer({ min: 1, max: 1e9 }) }, { weight: 1, arbitrary: numbers });

const windowText = fc
  .tuple(
    fc.constantFrom(1, 2, 7, 60, 90, 0, 366, 367, 8784, 8785, 527040, 31622400, 31622401),
    fc.constantFrom('ms', 's', 'm', 'h', 'd'),
  )
  .map(([count, unit]) => `${count}${unit}`);
const oddText = fc.constantFrom(
  '1',
  '',
  's',
  '1S',
  '1 s',
  ' 1s',
  '1s ',
  '1s\n',
  '+1s',
  '1.0s',
  '1e3s',
  '٣s',
  '01s',
  '1sm',
  '99999999999999999999d',
);
const windows = fc.oneof(
  { weight: 9, arbitrary: windowText },
  { weight: 1, arbitrary: oddText },
  { weight: 9, arbitrary: whole },
);
const algorithms = fc.constantFrom('token-bucket', 'token-bucket', 'sliding-window', 'sliding-window', 'Token-Bucket');

/** Text of about `max` bytes, in characters of one to four of them, now and then with half a pair. */
const textNear = (max: number): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.string({ minLength: 1, maxLength: 20, unit: 'binary' }) },
    fc.constantFrom('__proto__', 'constructor', '', '\0', 'a\ud800', '\udc00b', '\udc00\ud800'),
    fc
      .tuple(fc.constantFrom('x', 'é', '€', '🦉'), fc.integer({ min: -1, max: 1 }))
      .map(([char, over]) => char.repeat(Math.floor(max / Buffer.byteLength(char)) + over)),
  );

const own = {
  limit: rarely(whole),
  window: rarely(windows),
  windowMs: rarely(whole),
  burst: rarely(whole),
  algorithm: rarely(algorithms),
};
const nearlyLimit = (keys: ('limit' | 'window')[]): fc.Arbitrary<object> =>
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ limit: own.limit, window: own.window }) },
    { weight: 4, arbitrary: fc.record({ limit: own.limit, windowMs: own.windowMs, algorithm: own.algorithm }) },
    { weight: 1, arbitrary: fc.record(own, { requiredKeys: keys }) },
  );
const limits = fc.oneof(
  { weight: 9, arbitrary: fc.array(rarely(nearlyLimit(['limit', 'window'])), { maxLength: 9, size: 'small' }) },
  { weight: 1, arbitrary: junk },
);
const common = {
  clientId: rarely(textNear(256)),
  cost: rarely(whole),
  peek: rarely(fc.boolean()),
  requestId: rarely(textNear(128)),
  durability: rarely(fc.constant('replicated')),
};
const unknownKey = fc.constantFrom('extra', '__proto__', 'constructor', 'Limit', 'a/b', '');
const requests: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 10, arbitrary: fc.tuple(fc.record(common, { requiredKeys: ['clientId'] }), nearlyLimit([])).map(merge) },
  {
    weight: 6,
    arbitrary: fc.tuple(fc.record(common, { requiredKeys: ['clientId'] }), fc.record({ limits })).map(merge),
  },
  {
    weight: 4,
    arbitrary: fc.record({ ...common, ...own, limits, policy: rarely(textNear(128)) }, { requiredKeys: [] }),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.record({ clientId: common.clientId, limit: own.limit, window: own.window }), unknownKey, junk)
      .map(([request, key, value]) =>
        // `__proto__` as a name of its own, as JSON.parse makes it.
        Object.defineProperty({ ...request }, key, { value, enumerable: true }),
      ),
  },
  { weight: 1, arbitrary: fc.oneof(junk, numbers) },
);

function merge([a, b]: readonly [object, object]): object {
  return { ...a, ...b };
}

/** A change of each field of a request, and the field of the check that it changes. */
const READ_AS: Readonly<Record<keyof AllowRequest, readonly [Readonly<Record<string, unknown>>, keyof Check]>> = {
  clientId: [{ clientId: 'y' }, 'clientId'],
  scope: [{ scope: 's' }, 'rules'],
  limit: [{ limit: 11 }, 'rules'],
  window: [{ window: '2m' }, 'rules'],
  windowMs: [{ window: undefined, windowMs: 1 }, 'rules'],
  burst: [{ burst: 20 }, 'rules'],
  algorithm: [{ algorithm: 'sliding-window' }, 'rules'],
  limits: [{ limit: undefined, window: undefined, limits: [{ limit: 1, window: 1 }] }, 'rules'],
  policy: [{ limit: undefined, window: undefined, policy: 'api' }, 'rules'],
  cost: [{ cost: 2 }, 'cost'],
  reserve: [{ reserve: true }, 'reservation'],
  peek: [{ peek: true }, 'peek'],
  durability: [{ durability: 'replicated' }, 'replicated'],
  requestId: [{ requestId: 'r' }, 'requestId'],
};

describe('a request that is read', () => {
  const policies = policiesOf({ policies: { api: { limit: 5, window: '1m' } } });
  const plain = { clientId: 'x', limit: 10, window: '1m' };
  const before = readCheck(plain, policies);

  for (const [field, [change, changed]] of Object.entries(READ_AS))
    it(`loses no field on the way to the check: ${field}`, () => {
      expect(readCheck({ ...plain, ...change }, policies)[changed]).not.to.deep.equal(before[changed]);
    });
});

describe('the check of a request', () => {
  it('accepts what a slow validator, written from the contract, accepts, and complains of a field of which it does', () => {
    let accepted = 0;
    let refused = 0;
    const property = fc.property(requests, (request) => {
      const expected = complaints(request);
      let problem: unknown;
      try {
        readCheck(request);
        accepted += 1;
      } catch (error) {
        problem = error;
        refused += 1;
      }
      if (expected.length === 0) expect(problem).to.equal(undefined);
      else {
        expect(problem).to.be.instanceOf(TokenringError);
        expect((problem as TokenringError).status).to.equal(400);
        expect(expected).to.include((problem as TokenringError).field);
        expect((problem as TokenringError).expected).to.be.a('string').that.is.not.empty;
      }
    });
    fc.assert(property, { numRuns: 10_000 });
    // Otherwise the property says little.
    expect(accepted).to.be.above(1_000);
    expect(refused).to.be.above(1_000);
  });

  it('takes what it accepts for what it says', () => {
    const limit = fc.record({ limit: fc.nat({ max: 1e9 }), window: windowText });
    const request = fc.record({
      clientId: fc.string({ minLength: 1, maxLength: 20 }),
      limits: fc.array(limit, { minLength: 1, maxLength: 8 }),
      cost: fc.integer({ min: 1, max: 1e9 }),
      peek: fc.boolean(),
    });
    const property = fc.property(request, (asked) => {
      fc.pre(complaints(asked).length === 0);
      const { clientId, cost, peek } = asked;
      const rules = asked.limits.map(({ limit: n, window }) => ({
        algorithm: 'token-bucket',
        limit: n,
        windowMs: windowMsOf(window),
        capacity: n,
        policy: undefined,
        scope: undefined,
      }));
      expect(readCheck(asked)).to.deep.include({ clientId, cost, peek, requestId: undefined, rules });
    });
    fc.assert(property, { numRuns: 500 });
  });

  it('takes -0 for 0', () => {
    // chai tells them apart.
    const [rule] = readCheck({ clientId: 'a', limit: -0, window: '7ms' }).rules;
    expect([rule!.limit, rule!.capacity]).to.deep.equal([0, 0]);
  });

  it('fills in what is left out', () => {
    expect(readCheck({ clientId: 'a', limit: 5, window: '1m', burst: 9, requestId: 'r' })).to.deep.include({
      clientId: 'a',
      cost: 1,
      peek: false,
      requestId: 'r',
      rules: [
        { algorithm: 'token-bucket', limit: 5, windowMs: 60_000, capacity: 9, policy: undefined, scope: undefined },
      ],
    });
  });

  it('puts all limits into the scope, whose client is the same for policies and lists', () => {
    const policies = policiesOf({
      policies: { api: { limit: 9, window: '1h' } },
      clients: { a: { overrides: { api: { limit: 3 } } } },
      deny: ['b'],
    });
    const scope = 'größe 💧';
    const limits = [
      { limit: 1, window: '1s' },
      { limit: 5, window: '1m' },
    ];
    for (const more of [{ limit: 5, window: '1m' }, { limits }, { policy: 'api' }]) {
      const { clientId, hashHigh, hashLow, rules } = readCheck({ clientId: 'a', scope, ...more }, policies);
      expect(rules.map((rule) => rule.scope)).to.deep.equal(rules.map(() => scope));
      expect({ clientId, hashHigh, hashLow }).to.deep.equal(clientKey('a'));
    }
    expect(readCheck({ clientId: 'a', scope, policy: 'api' }, policies).rules[0]).to.include({ limit: 3 });
    expect(readCheck({ clientId: 'b', scope, limit: 1, window: 1 }, policies).terms).to.include({ listed: 'deny' });
  });
});

describe('the problem with a request', () => {
  const good = { clientId: 'a', limit: 5, window: '1m' };
  const sentences: [value: unknown, detail: string][] = [
    [{ clientid: 'a', limit: 5, window: '1m' }, 'unknown field "clientid"; did you mean "clientId"?'],
    [
      { ...good, window: 'banana' },
      'window: "banana" is not a duration; use whole milliseconds or "250ms", "10s", "1m", "1h", "1d", from 1 ms to 366 d',
    ],
    [{ ...good, limit: '5' }, 'limit: "5" is not valid; use a whole number from 0 to 1000000000'],
    [{ ...good, windowMs: 1 }, 'windowMs is not allowed beside window; remove it'],
    [{ ...good, algorithm: 'gcra' }, 'algorithm: "gcra" is not valid; use "token-bucket" or "sliding-window"'],
    ...['', 'x'.repeat(129), 'ü'.repeat(65), '\ud800'].map((scope): [unknown, string] => [
      { ...good, scope },
      `scope: ${JSON.stringify(scope.length > 40 ? `${scope.slice(0, 40)}…` : scope)} is not valid; use 1 to 128 bytes of well-formed Unicode`,
    ]),
    [{ ...good, cost: 0 }, 'cost: 0 is not valid; use a whole number from 1 to 1000000000'],
    [{ ...good, peek: 'yes' }, 'peek: "yes" is not valid; use true or false'],
    [{ ...good, durability: 'eternal' }, 'durability: "eternal" is not valid; use "replicated"'],
    [{ ...good, policy: 'p' }, 'limit is not allowed beside policy; remove it'],
    [{ ...good, reserve: true, peek: true }, 'reserve is not allowed with peek, which consumes nothing; remove it'],
    [{ clientId: 'a' }, 'limit is missing; use a limit, limits, or a policy'],
    [{ limit: 5, window: '1m' }, 'clientId is missing; use 1 to 256 bytes of well-formed Unicode'],
    [
      { ...good, algorithm: 'sliding-window', burst: 9 },
      'burst is not allowed with sliding-window, which never admits more than limit; remove it',
    ],
    [
      { clientId: 'a', limits: [{ limit: 1, windw: '1m' }] },
      'limits[0]: unknown field "windw"; did you mean "window"?',
    ],
    [
      {
        clientId: 'a',
        limits: [
          { limit: 1, window: '1m' },
          { limit: 2, window: '60s' },
        ],
      },
      'limits[1].window: the same window and algorithm as limits[0]; use another of them',
    ],
    ['text', 'body: "text" is not valid; use an object'],
  ];

  for (const [value, detail] of sentences)
    it(`is one sentence with advice: ${detail}`, () => {
      expect(() => readCheck(value))
        .to.throw(TokenringError)
        .with.property('detail', detail);
    });
});

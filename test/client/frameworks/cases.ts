import type { Limiter, OnUnavailable } from '../../../src/limits/request/limiter.js';
import { TokenringError } from '../../../src/lib/error.js';
import type { Sent } from '../../support/http.js';
import type { AppSpec, LimiterOptions, Seen } from './apps/app.js';
import type { Shown } from './shown.js';

export interface Tools {
  /** A node, of its own for each case. */
  readonly limiter: Limiter;
  /** What a case notes of what happens. */
  readonly events: unknown[];
}

/** One app, requests to it one after the other, and what each framework must answer. */
export interface Case {
  readonly title: string;
  readonly spec: (tools: Tools) => AppSpec;
  readonly asks?: readonly Sent[];
  readonly answers: readonly Shown[];
  readonly events?: readonly unknown[];
  /** Tokens left to the client `x` of a limit of 5 per `1h`, by scope (`''` for none), once all costs are settled. */
  readonly left?: Readonly<Record<string, number>>;
}

const HOUR = { window: '1h', key: () => 'x' } as const;
const x = (headers: Record<string, string>): Sent => ({ headers });
const twice: readonly Sent[] = [{}, {}];

const DENIAL = {
  type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
  title: 'Request cannot be satisfied as assigned quota has been exceeded',
  status: 429,
};
const POLICY_1 = '"default";q=1;w=3600';
const DENIED_1: Shown = {
  status: 429,
  'ratelimit-policy': POLICY_1,
  ratelimit: '"default";r=0;t=3600',
  'retry-after': '3600',
  'cache-control': 'no-store',
  problem: true,
  body: { ...DENIAL, 'violated-policies': ['default'], retryAfterMs: 3_600_000 },
};
const ALLOWED_1: Shown = {
  status: 200,
  'ratelimit-policy': POLICY_1,
  ratelimit: '"default";r=0;t=3600',
  body: 'allowed, 0 of 1 left',
};
const UNAVAILABLE_BODY = {
  type: 'urn:tokenring:problem:unavailable',
  code: 'unavailable',
  status: 503,
  title: 'Service Unavailable',
  detail: 'The limit of requests cannot be checked now',
  retryAfterMs: 1_000,
};
const UNAVAILABLE: Shown = {
  status: 503,
  'retry-after': '1',
  'cache-control': 'no-store',
  problem: true,
  body: UNAVAILABLE_BODY,
};
const one = ({ limiter }: Tools, more: Partial<LimiterOptions> = {}): LimiterOptions => ({
  limiter,
  limit: 1,
  ...HOUR,
  ...more,
});
const failing = (code: ConstructorParameters<typeof TokenringError>[0], details = {}): LimiterOptions['limiter'] => ({
  check: () => Promise.reject(new TokenringError(code, details)),
});
const fault = (code: string | null, field: string | null = null, message: string | null = null): Shown => ({
  status: 500,
  body: { code, field, message },
});
const NO_ERROR = fault(null, null, 'rateLimit: a callback has thrown something that is no error');
const thrown = (value: unknown) => (): never => {
  throw value;
};
/** The answers of the handler alone, without headers, where those are not the point. */
const bare = (options: LimiterOptions): LimiterOptions => ({ ...options, headers: false });
const allowed = (remaining: number, limit: number): Shown => ({
  status: 200,
  body: `allowed, ${remaining} of ${limit} left`,
});

const headers: Case[] = [
  {
    title: 'show the limit, and tell who is denied when to come again',
    spec: (tools) => ({ limiters: [one(tools)] }),
    asks: twice,
    answers: [ALLOWED_1, DENIED_1],
  },
  {
    title: 'answer HEAD as GET, without a body',
    spec: (tools) => ({ limiters: [one(tools)] }),
    asks: [{ method: 'HEAD' }, { method: 'HEAD' }],
    answers: [
      { ...ALLOWED_1, body: '' },
      { ...DENIED_1, body: '' },
    ],
  },
  {
    title: 'show each of several limits, and name those that deny',
    spec: ({ limiter }) => ({
      limiters: [
        {
          limiter,
          key: () => 'x',
          limits: [
            { limit: 1, window: '1h' },
            { limit: 9, window: '1d' },
          ],
        },
      ],
    }),
    asks: twice,
    answers: [
      {
        status: 200,
        'ratelimit-policy': '"1h";q=1;w=3600, "1d";q=9;w=86400',
        ratelimit: '"1h";r=0;t=3600, "1d";r=8;t=9600',
        body: 'allowed, 0 of 1 left',
      },
      {
        ...DENIED_1,
        'ratelimit-policy': '"1h";q=1;w=3600, "1d";q=9;w=86400',
        ratelimit: '"1h";r=0;t=3600, "1d";r=8;t=9600',
        body: { ...DENIAL, 'violated-policies': ['1h'], retryAfterMs: 3_600_000 },
      },
    ],
  },
  ...(
    [
      ['draft-8', { 'ratelimit-policy': '"default";q=5;w=3600', ratelimit: '"default";r=4;t=720' }],
      ['draft-7', { 'ratelimit-policy': '5;w=3600', ratelimit: 'limit=5, remaining=4, reset=720' }],
      [
        'draft-6',
        {
          'ratelimit-policy': '5;w=3600',
          'ratelimit-limit': '5',
          'ratelimit-remaining': '4',
          'ratelimit-reset': '720',
        },
      ],
      ['legacy', { 'x-ratelimit-limit': '5', 'x-ratelimit-remaining': '4', 'x-ratelimit-reset': 'in 720 s' }],
      [
        ['draft-11', 'legacy'],
        {
          'ratelimit-policy': '"default";q=5;w=3600',
          ratelimit: '"default";r=4;t=720',
          'x-ratelimit-limit': '5',
          'x-ratelimit-remaining': '4',
          'x-ratelimit-reset': 'in 720 s',
        },
      ],
      [false, {}],
    ] as const
  ).map(([style, fields]): Case => ({
    title: `write the headers of ${JSON.stringify(style)}`,
    spec: ({ limiter }) => ({ limiters: [{ limiter, limit: 5, ...HOUR, headers: style }] }),
    answers: [{ status: 200, ...fields, body: 'allowed, 4 of 5 left' }],
  })),
  {
    title: 'show each limiter of a route under a name of its own',
    spec: ({ limiter }) => ({
      limiters: [
        { limiter, limit: 9, ...HOUR, name: 'app' },
        { limiter, limit: 5, ...HOUR },
        { limiter, limit: 1, ...HOUR },
      ],
    }),
    asks: twice,
    answers: [
      {
        status: 200,
        'ratelimit-policy': '"app";q=9;w=3600, "default";q=5;w=3600, "default-2";q=1;w=3600',
        ratelimit: '"app";r=8;t=400, "default";r=4;t=720, "default-2";r=0;t=3600',
        body: 'allowed, 0 of 1 left',
      },
      {
        ...DENIED_1,
        'ratelimit-policy': '"app";q=9;w=3600, "default";q=5;w=3600, "default-2";q=1;w=3600',
        ratelimit: '"app";r=7;t=800, "default";r=3;t=1440, "default-2";r=0;t=3600',
        body: { ...DENIAL, 'violated-policies': ['default-2'], retryAfterMs: 3_600_000 },
      },
    ],
  },
  {
    title: 'show the limiter with the fewest tokens left in headers that have room for one',
    spec: ({ limiter }) => ({
      limiters: [9, 3, 5].map((limit) => ({ limiter, limit, ...HOUR, headers: 'draft-7' as const })),
    }),
    answers: [
      {
        status: 200,
        'ratelimit-policy': '9;w=3600, 3;w=3600, 5;w=3600',
        ratelimit: 'limit=3, remaining=2, reset=1200',
        body: 'allowed, 4 of 5 left',
      },
    ],
  },
  {
    title: 'keep the headers when the handler throws',
    spec: (tools) => ({ limiters: [one(tools)], handler: { kind: 'throw', error: new Error('of the handler') } }),
    answers: [
      {
        status: 500,
        'ratelimit-policy': POLICY_1,
        ratelimit: '"default";r=0;t=3600',
        body: { code: null, field: null, message: 'of the handler' },
      },
    ],
  },
  {
    title: 'let answers stream',
    spec: (tools) => ({ limiters: [one(tools)], handler: { kind: 'stream' } }),
    answers: [{ ...ALLOWED_1, body: 'one two three' }],
  },
  {
    title: 'write no name of a policy that ends the header',
    spec: () => ({
      limiters: [
        {
          limiter: {
            check: () =>
              Promise.resolve({
                allowed: true,
                limit: 0,
                remaining: 0,
                retryAfterMs: 0,
                resetMs: 0,
                owner: '',
                source: 'owner' as const,
                degraded: false,
                limits: undefined,
              }),
          },
          key: () => 'x',
          policy: (seen: Seen) => JSON.parse(seen.header('x-policy')!) as string,
        },
      ],
    }),
    asks: [x({ 'x-policy': JSON.stringify('a"; q=9\r\nSet-Cookie: b') })],
    answers: [
      {
        status: 200,
        'ratelimit-policy': '"a; q=9Set-Cookie: b";q=0',
        ratelimit: '"a; q=9Set-Cookie: b";r=0;t=0',
        body: 'allowed, 0 of 0 left',
      },
    ],
  },
];

const from = (address: string): Sent => x({ 'x-forwarded-for': address });

const keys: Case[] = [
  {
    title: 'take callers by their address, which no caller can claim',
    spec: ({ limiter }) => ({ limiters: [bare({ limiter, limit: 9, window: '1h' })] }),
    asks: [{}, from('203.0.113.1'), from('203.0.113.2')],
    answers: [allowed(8, 9), allowed(7, 9), allowed(6, 9)],
  },
  {
    title: 'take callers behind a trusted proxy by the address that it tells',
    spec: ({ limiter }) => ({ limiters: [bare({ limiter, limit: 9, window: '1h' })], behindProxy: true }),
    asks: [
      from('203.0.113.1'),
      from('203.0.113.2'),
      from('198.51.100.9, 203.0.113.1'),
      from('2001:db8:1:2::1'),
      from('2001:db8:1:2:ffff::9'),
      from('2001:db8:1:3::1'),
    ],
    answers: [allowed(8, 9), allowed(8, 9), allowed(7, 9), allowed(8, 9), allowed(7, 9), allowed(8, 9)],
  },
  {
    title: 'take callers by a key, now or later, and skip some',
    spec: ({ limiter }) => ({
      limiters: [
        bare({
          limiter,
          limit: 9,
          window: '1h',
          key: (seen) => Promise.resolve(seen.header('x-key') ?? ''),
          skip: (seen) => (seen.header('x-skip') === 'later' ? Promise.resolve(true) : seen.header('x-skip') === 'now'),
        }),
      ],
    }),
    asks: [
      x({ 'x-key': 'a' }),
      x({ 'x-key': 'b' }),
      x({ 'x-key': 'a', 'x-skip': 'now' }),
      x({ 'x-key': 'a', 'x-skip': 'later' }),
      x({ 'x-key': 'a' }),
      {},
    ],
    answers: [
      allowed(8, 9),
      allowed(8, 9),
      { status: 200, body: null },
      { status: 200, body: null },
      allowed(7, 9),
      fault('invalid_request', 'clientId'),
    ],
  },
  {
    title: 'refuse keys that are no text, or of 10 MB',
    spec: ({ limiter }) => ({
      limiters: [
        {
          limiter,
          limit: 9,
          window: '1h',
          key: (seen) => (seen.header('x-key') === undefined ? (7 as unknown as string) : 'x'.repeat(10_000_000)),
        },
      ],
    }),
    asks: [{}, x({ 'x-key': 'long' })],
    answers: [fault('invalid_request', 'clientId'), fault('invalid_request', 'clientId')],
  },
  {
    title: 'take headers with names of Object.prototype for headers like others',
    spec: ({ limiter }) => ({
      limiters: [bare({ limiter, limit: 9, window: '1h', key: (seen) => `k${seen.header('constructor') ?? ''}` })],
    }),
    asks: [x({ constructor: 'a' }), x({ __proto__: 'b' }), x({ constructor: 'a' })],
    answers: [allowed(8, 9), allowed(8, 9), allowed(7, 9)],
  },
];

const terms: Case[] = [
  {
    title: 'take limit and cost from the request, now or later',
    spec: ({ limiter }) => ({
      limiters: [
        bare({
          limiter,
          ...HOUR,
          limit: (seen) => Promise.resolve(Number(seen.header('x-limit'))),
          cost: (seen) => Number(seen.header('x-cost') ?? 1),
        }),
      ],
    }),
    asks: [x({ 'x-limit': '5', 'x-cost': '2' }), x({ 'x-limit': '9' }), x({ 'x-limit': '5', 'x-cost': '0' })],
    answers: [allowed(3, 5), allowed(6, 9), fault('invalid_request', 'cost')],
  },
  {
    title: 'take a policy by name, by a function, or by default, and share it between limiters',
    spec: ({ limiter }) => ({
      limiters: [
        bare({ limiter, key: () => 'x', policy: 'nine' }),
        bare({ limiter, key: () => 'x', policy: () => 'nine' }),
      ],
    }),
    answers: [allowed(7, 9)],
  },
  {
    title: 'show a policy, whose window only the nodes know',
    spec: ({ limiter }) => ({ limiters: [{ limiter, key: () => 'y', policy: 'nine' }] }),
    answers: [
      { status: 200, 'ratelimit-policy': '"nine";q=9', ratelimit: '"nine";r=8;t=400', body: 'allowed, 8 of 9 left' },
    ],
  },
  {
    title: 'let a denied request wait for its turn, or deny one whose turn comes too late',
    spec: ({ limiter }) => ({
      limiters: [bare({ limiter, limit: 1, window: '100ms', key: () => 'w', name: 'short', wait: '5s' })],
    }),
    asks: [{}, {}, {}],
    answers: [allowed(0, 1), allowed(0, 1), allowed(0, 1)],
  },
  {
    title: 'deny at once a request whose turn comes too late',
    spec: (tools) => ({ limiters: [one(tools, { wait: 50 })] }),
    asks: twice,
    answers: [ALLOWED_1, DENIED_1],
  },
];

const five = { limit: 5, ...HOUR } as const;
const FIVE = { 'ratelimit-policy': '"default";q=5;w=3600', ratelimit: '"default";r=4;t=720' };

const outcomes: Case[] = [
  ...(
    [
      ['give back what succeeds', { skipSuccessful: true }, 200, 5],
      ['count what fails', { skipSuccessful: true }, 401, 4],
      ['count what succeeds', { skipFailed: true }, 200, 4],
      ['give back what fails', { skipFailed: true }, 500, 5],
      ['give all back', { skipFailed: true, skipSuccessful: true }, 200, 5],
    ] as const
  ).map(([title, more, status, left]): Case => ({
    title: `${title}: ${JSON.stringify(more)} and ${status}`,
    spec: ({ limiter }) => ({ limiters: [{ limiter, ...five, ...more }], handler: { kind: 'json', status } }),
    answers: [{ status, ...FIVE, body: 'allowed, 4 of 5 left' }],
    left: { '': left },
  })),
  {
    title: 'count the cost that is known after the answer',
    spec: ({ limiter }) => ({
      limiters: [{ limiter, ...five, costAfter: (seen) => Promise.resolve(seen.status() === 202 ? 3 : 5) }],
      handler: { kind: 'json', status: 202 },
    }),
    answers: [{ status: 202, ...FIVE, body: 'allowed, 4 of 5 left' }],
    left: { '': 2 },
  },
  {
    title: 'count all that was reserved when the cost after throws',
    spec: ({ limiter }) => ({
      limiters: [{ limiter, ...five, cost: 2, costAfter: thrown(new Error('of costAfter')) }],
    }),
    answers: [{ status: 200, ...FIVE, ratelimit: '"default";r=3;t=1440', body: 'allowed, 3 of 5 left' }],
    left: { '': 3 },
  },
  {
    title: 'take an error of the handler for a failure',
    spec: ({ limiter }) => ({
      limiters: [{ limiter, ...five, skipFailed: true }],
      handler: { kind: 'throw', error: new Error('of the handler') },
    }),
    answers: [{ status: 500, ...FIVE, body: { code: null, field: null, message: 'of the handler' } }],
    left: { '': 5 },
  },
  {
    title: 'give back after the end of a stream',
    spec: ({ limiter }) => ({ limiters: [{ limiter, ...five, skipSuccessful: true }], handler: { kind: 'stream' } }),
    answers: [{ status: 200, ...FIVE, body: 'one two three' }],
    left: { '': 5 },
  },
  {
    title: 'settle each of several limiters by its own rule',
    spec: ({ limiter }) => ({
      limiters: [bare({ limiter, ...five, skipFailed: true }), bare({ limiter, ...five, skipSuccessful: true })],
      handler: { kind: 'json', status: 401 },
    }),
    answers: [{ status: 401, body: 'allowed, 4 of 5 left' }],
    left: { '': 5, '#2': 4 },
  },
  {
    title: 'measure what is let through, and nothing else',
    spec: (tools) => ({
      limiters: [bare(one(tools, { load: { begin: () => (ok?: boolean) => void tools.events.push(ok) } }))],
      handler: { kind: 'json', status: 502 },
    }),
    asks: twice,
    answers: [
      { status: 502, body: 'allowed, 0 of 1 left' },
      { ...DENIED_1, 'ratelimit-policy': undefined, ratelimit: undefined },
    ],
    events: [false],
  },
];

const denials: Case[] = [
  {
    title: 'answer as onDenied says',
    spec: (tools) => ({
      limiters: [one(tools, { limit: 0, onDenied: (_seen, { limit }) => ({ status: 418, text: `limit ${limit}` }) })],
    }),
    answers: [
      {
        status: 418,
        'ratelimit-policy': '"default";q=0;w=3600',
        ratelimit: '"default";r=0;t=0',
        body: 'limit 0',
      },
    ],
  },
  {
    title: 'let a denied request pass when onDenied says so',
    spec: (tools) => ({ limiters: [bare(one(tools, { limit: 0, onDenied: () => Promise.resolve('pass' as const) }))] }),
    answers: [{ status: 200, body: 'denied, 0 of 0 left' }],
  },
  ...(
    [
      ['an error', Object.assign(new Error('mine'), { code: 'mine' }), fault('mine')],
      ['undefined', undefined, NO_ERROR],
      ['null', null, NO_ERROR],
      ['a text that is a command to Express', 'route', NO_ERROR],
    ] as const
  ).flatMap(([what, value, answer]): Case[] => [
    {
      title: `answer 500 when onDenied throws ${what}`,
      spec: (tools) => ({ limiters: [bare(one(tools, { limit: 0, onDenied: thrown(value) }))] }),
      answers: [answer],
    },
    {
      title: `answer 500 when key throws ${what}`,
      spec: (tools) => ({ limiters: [one(tools, { key: () => Promise.resolve().then(thrown(value)) })] }),
      answers: [answer],
    },
  ]),
  {
    title: 'tell the first denial of a client in a window, and answer each',
    spec: (tools) => ({
      limiters: [
        bare(
          one(tools, {
            key: (seen) => seen.header('x-key')!,
            onDenied: () => (tools.events.push('denied'), { status: 429, text: '' }),
            onFirstDenied: (seen, { allowed: passes }) =>
              void tools.events.push(`first ${seen.header('x-key')} ${passes}`),
          }),
        ),
      ],
    }),
    asks: ['a', 'a', 'a', 'b', 'b'].map((key) => x({ 'x-key': key })),
    answers: [
      allowed(0, 1),
      { status: 429, 'retry-after': '3600', body: '' },
      { status: 429, 'retry-after': '3600', body: '' },
      allowed(0, 1),
      { status: 429, 'retry-after': '3600', body: '' },
    ],
    events: ['first a false', 'denied', 'denied', 'first b false', 'denied'],
  },
];

/** A limiter without nodes; with a share of its own, where something of it is used. */
const fallback = (allows: boolean, resetMs = 0): LimiterOptions['limiter'] => ({
  check: () =>
    Promise.resolve({
      allowed: allows,
      limit: 1,
      remaining: 0,
      retryAfterMs: allows ? 0 : 2_500,
      resetMs,
      owner: '',
      source: 'fallback',
      degraded: true,
      limits: undefined,
    }),
});

/** What becomes of a request when no node can decide: by what the limiter does, and what the middleware is told. */
const UNDECIDED: [told: 'open' | 'closed' | 'throw' | undefined, by: string, answer: Shown][] = [
  [undefined, 'passes', allowed(0, 1)],
  [undefined, 'denies', { ...UNAVAILABLE, 'retry-after': '3', body: { ...UNAVAILABLE_BODY, retryAfterMs: 3_000 } }],
  [undefined, 'throws', fault('no_answer')],
  ['open', 'passes', allowed(0, 1)],
  ['open', 'denies', allowed(0, 1)],
  ['open', 'throws', allowed(0, 1)],
  ['open', 'denies by its share', allowed(0, 1)],
  ['closed', 'passes', UNAVAILABLE],
  ['closed', 'denies', { ...UNAVAILABLE, 'retry-after': '3', body: { ...UNAVAILABLE_BODY, retryAfterMs: 3_000 } }],
  ['closed', 'throws', UNAVAILABLE],
  ['throw', 'passes', fault('unavailable')],
  ['throw', 'denies', fault('unavailable')],
  ['throw', 'throws', fault('no_answer')],
];
const WITHOUT_NODES: Readonly<Record<string, LimiterOptions['limiter']>> = {
  passes: fallback(true),
  denies: fallback(false),
  throws: failing('no_answer'),
  'denies by its share': fallback(false, 5_000),
};

/** What becomes of a request under a policy that does not exist: by what the middleware is told, and the limiter. */
const WITHOUT_POLICY: [
  told: 'open' | 'closed' | 'throw' | undefined,
  does: OnUnavailable | undefined,
  answer: Shown,
][] = [
  [undefined, undefined, fault('unknown_policy')],
  [undefined, 'throw', fault('unknown_policy')],
  [undefined, 'open', allowed(0, 0)],
  [undefined, 'closed', UNAVAILABLE],
  [undefined, 'local', UNAVAILABLE],
  ['open', 'closed', allowed(0, 0)],
  ['closed', 'open', UNAVAILABLE],
  ['throw', 'open', fault('unknown_policy')],
];

const errors: Case[] = [
  ...(['unauthorized', 'forbidden', 'unknown_policy', 'no_answer', 'closed'] as const).map((code): Case => ({
    title: `answer 500 for ${code}: the service is at fault, not its caller`,
    spec: () => ({ limiters: [{ limiter: failing(code, { field: 'f' }), policy: 'p', key: () => 'x' }] }),
    answers: [fault(code, 'f')],
  })),
  ...WITHOUT_POLICY.map(([told, does, answer]): Case => ({
    title: `do as ${told ?? 'the limiter'} says without the policy, where the limiter does ${does ?? 'not say'}`,
    spec: () => ({
      limiters: [
        {
          limiter: Object.assign({}, failing('unknown_policy'), does && { onUnavailable: does }),
          policy: 'p',
          key: () => 'x',
          ...(told !== undefined && { onUnavailable: told }),
        },
      ],
    }),
    answers: [answer],
  })),
  {
    title: 'do as is told without a default policy',
    spec: () => ({
      limiters: [
        {
          limiter: failing('invalid_request', { field: 'limit' }),
          policy: true,
          key: () => 'x',
          onUnavailable: 'closed',
        },
      ],
    }),
    answers: [UNAVAILABLE],
  },
  ...(['no_answer', 'overloaded', 'unavailable', 'draining'] as const).map((code): Case => ({
    title: `answer 503 for ${code} where that is wanted`,
    spec: () => ({ limiters: [{ limiter: failing(code), policy: 'p', key: () => 'x', onUnavailable: 'closed' }] }),
    answers: [UNAVAILABLE],
  })),
  {
    title: 'answer 500 for an error that is none of availability, where 503 is wanted',
    spec: () => ({
      limiters: [{ limiter: failing('unauthorized'), policy: 'p', key: () => 'x', onUnavailable: 'closed' }],
    }),
    answers: [fault('unauthorized')],
  },
  {
    title: 'answer 500 when the limiter throws at once',
    spec: () => ({ limiters: [{ limiter: { check: thrown(new Error('of check')) }, limit: 1, ...HOUR }] }),
    answers: [fault(null, null, 'of check')],
  },
  ...UNDECIDED.map(([told, by, answer]): Case => ({
    title: `do as ${told ?? 'the limiter'} says where no node can decide and the limiter ${by}, without figures`,
    spec: () => ({
      limiters: [
        { limiter: WITHOUT_NODES[by]!, limit: 1, ...HOUR, ...(told !== undefined && { onUnavailable: told }) },
      ],
    }),
    answers: [answer],
  })),
  {
    title: 'tell who waits when to come again at the time that the limiter knows',
    spec: () => ({
      limiters: [
        { limiter: failing('no_answer', { retryAfterMs: 1_001 }), limit: 1, ...HOUR, onUnavailable: 'closed' },
      ],
    }),
    answers: [{ ...UNAVAILABLE, 'retry-after': '2', body: { ...UNAVAILABLE_BODY, retryAfterMs: 2_000 } }],
  },
  {
    title: 'answer 429 for a denial by the share of a node that is alone: it has been used',
    spec: () => ({ limiters: [{ limiter: fallback(false, 5_000), limit: 1, ...HOUR }] }),
    answers: [
      {
        status: 429,
        'retry-after': '3',
        'cache-control': 'no-store',
        problem: true,
        body: { ...DENIAL, 'violated-policies': ['default'], retryAfterMs: 3_000 },
      },
    ],
  },
];

export const CASES: readonly (readonly [group: string, cases: readonly Case[]])[] = [
  ['headers', headers],
  ['keys', keys],
  ['terms', terms],
  ['outcomes', outcomes],
  ['denials', denials],
  ['errors', errors],
];

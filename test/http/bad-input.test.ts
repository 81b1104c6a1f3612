import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import type { HttpErrorCode } from '../../src/lib/error.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, expectProblem, liveNode, newClient, post } from '../support/http.js';
import { exchange, frame, JSON_CLOSE } from './wire.js';

const KIB_64 = 64 * 1024;
const VICTIM = 'victim';
const good = { clientId: VICTIM, limit: 10, window: '1d' };
const deep = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
const wide = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;

/** What, with which member in place of or beside the good ones, and the field that the problem names. */
const badFields: [what: string, members: Record<string, unknown>, field: string][] = [
  ['no client', { clientId: undefined }, 'clientId'],
  ['a client that is a number', { clientId: 7 }, 'clientId'],
  ['a client that is null', { clientId: null }, 'clientId'],
  ['a client that is a list', { clientId: [VICTIM] }, 'clientId'],
  ['an empty client', { clientId: '' }, 'clientId'],
  ['a client of 257 bytes', { clientId: 'x'.repeat(257) }, 'clientId'],
  ['a client of 86 characters and 258 bytes', { clientId: '€'.repeat(86) }, 'clientId'],
  ['a client with half a surrogate pair', { clientId: 'a\ud800' }, 'clientId'],
  ['no limit', { limit: undefined }, 'limit'],
  ['a limit that is text', { limit: '10' }, 'limit'],
  ['a limit that is true', { limit: true }, 'limit'],
  ['a limit that is null', { limit: null }, 'limit'],
  ['a negative limit', { limit: -1 }, 'limit'],
  ['half a limit', { limit: 0.5 }, 'limit'],
  ['a limit above 1e9', { limit: 1_000_000_001 }, 'limit'],
  ['no window', { window: undefined }, 'window'],
  ['a window of 0', { window: 0 }, 'window'],
  ['a negative window', { window: -1000 }, 'window'],
  ['a window of half a millisecond', { window: 0.5 }, 'window'],
  ['a window of 366 days and 1 ms', { window: 366 * 86_400_000 + 1 }, 'window'],
  ['a window of 367 days', { window: '367d' }, 'window'],
  ['a window of no time', { window: '0s' }, 'window'],
  ['a window of digits', { window: '1000' }, 'window'],
  ['a window with a space', { window: '1 m' }, 'window'],
  ['a window with a point', { window: '1.5s' }, 'window'],
  ['a window with a sign', { window: '-1m' }, 'window'],
  ['a window in capitals', { window: '1M' }, 'window'],
  ['a window with a line break after it', { window: '1m\n' }, 'window'],
  ['a window in words', { window: 'minute' }, 'window'],
  ['both window and windowMs', { windowMs: 1000 }, 'windowMs'],
  ['windowMs as text', { window: undefined, windowMs: '1m' }, 'windowMs'],
  ['windowMs of 0', { window: undefined, windowMs: 0 }, 'windowMs'],
  ['a burst of 0', { burst: 0 }, 'burst'],
  ['a burst above 1e9', { burst: 1e9 + 1 }, 'burst'],
  ['a burst with sliding-window', { algorithm: 'sliding-window', burst: 20 }, 'burst'],
  ['an unknown algorithm', { algorithm: 'leaky-bucket' }, 'algorithm'],
  ['an algorithm of null', { algorithm: null }, 'algorithm'],
  ['a cost of 0', { cost: 0 }, 'cost'],
  ['a negative cost', { cost: -1 }, 'cost'],
  ['a cost of 1.5', { cost: 1.5 }, 'cost'],
  ['a cost above 1e9', { cost: 1e9 + 1 }, 'cost'],
  ['peek as text', { peek: 'true' }, 'peek'],
  ['peek as a number', { peek: 1 }, 'peek'],
  ['an unknown durability', { durability: 'eternal' }, 'durability'],
  ['an empty request id', { requestId: '' }, 'requestId'],
  ['a request id of 129 bytes', { requestId: 'x'.repeat(129) }, 'requestId'],
  ['a request id of 43 characters and 129 bytes', { requestId: '€'.repeat(43) }, 'requestId'],
  ['a request id that is a number', { requestId: 7 }, 'requestId'],
  ['an unknown field', { lmit: 10 }, 'lmit'],
  ['an unknown field named like a path', { 'a/b~c': 1 }, 'a/b~c'],
  ['an unknown field named like something of the language', { constructor: 1 }, 'constructor'],
  ['both limit and limits', { window: undefined, limits: [{ limit: 1, window: '1s' }] }, 'limit'],
  ['both window and limits', { limit: undefined, limits: [{ limit: 1, window: '1s' }] }, 'window'],
  ['both limit and policy', { window: undefined, policy: 'p' }, 'limit'],
  ['an empty policy', { policy: '' }, 'policy'],
];

const badLimits: [what: string, limits: unknown, field: string][] = [
  ['limits that are an object', {}, 'limits'],
  ['no limits at all', [], 'limits'],
  ['nine limits', Array.from({ length: 9 }, (_, i) => ({ limit: 1, window: i + 1 })), 'limits'],
  ['a limit among limits that is null', [{ limit: 1, window: '1s' }, null], 'limits[1]'],
  ['a limit among limits without a limit', [{ window: '1s' }], 'limits[0].limit'],
  ['a limit among limits without a window', [{ limit: 1, window: '1s' }, { limit: 1 }], 'limits[1].window'],
  ['a limit among limits with both windows', [{ limit: 1, window: 1, windowMs: 1 }], 'limits[0].windowMs'],
  ['a limit among limits with a cost', [{ limit: 1, window: '1s', cost: 1 }], 'limits[0].cost'],
  ['a bad window among limits', [{ limit: 1, window: '1x' }], 'limits[0].window'],
  ['a bad algorithm among limits', [{ limit: 1, window: '1s', algorithm: 'x' }], 'limits[0].algorithm'],
  [
    'a burst with sliding-window among limits',
    [{ limit: 1, window: 1, burst: 1, algorithm: 'sliding-window' }],
    'limits[0].burst',
  ],
  [
    'the same bucket twice among limits',
    [
      { limit: 1, window: '1m' },
      { limit: 2, window: '60s' },
    ],
    'limits[1].window',
  ],
];

const text = (members: Record<string, unknown>): string => JSON.stringify({ ...good, ...members });
const with_ = (raw: string): string => `${JSON.stringify(good).slice(0, -1)},${raw}}`;

const badBodies: [what: string, body: string | Buffer, code: HttpErrorCode, field?: string][] = [
  ...badFields.map(([what, members, field]): [string, string, HttpErrorCode, string] => [
    what,
    text(members),
    'invalid_request',
    field,
  ]),
  ...badLimits.map(([what, limits, field]): [string, string, HttpErrorCode, string] => [
    what,
    JSON.stringify({ clientId: VICTIM, limits }),
    'invalid_request',
    field,
  ]),
  [
    'limits beside a policy',
    JSON.stringify({ clientId: VICTIM, limits: [{ limit: 1, window: '1s' }], policy: 'p' }),
    'invalid_request',
    'policy',
  ],
  ['an unknown policy', JSON.stringify({ clientId: VICTIM, policy: 'nobody' }), 'unknown_policy', 'policy'],
  ['a field named __proto__', with_('"__proto__":{"peek":true}'), 'invalid_request', '__proto__'],
  ['an empty name', with_('"":1'), 'invalid_request'],
  ['1e400, which is no number of JavaScript', with_('"cost":1e400'), 'invalid_request', 'cost'],
  ['NaN', with_('"cost":NaN'), 'invalid_json'],
  ['Infinity', with_('"cost":Infinity'), 'invalid_json'],
  ['a comma too many', with_(''), 'invalid_json'],
  ['two values', `${text({})}${text({})}`, 'invalid_json'],
  ['an empty body', '', 'invalid_json'],
  ['JSON cut off', text({}).slice(0, -1), 'invalid_json'],
  ['a byte order mark', `\ufeff${text({})}`, 'invalid_json'],
  ['a NUL at the end', `${text({})}\0`, 'invalid_json'],
  ['single quotes', text({}).replaceAll('"', "'"), 'invalid_json'],
  ['bytes that are no UTF-8', Buffer.from(text({ requestId: '\xff' }), 'latin1'), 'invalid_json'],
  ['UTF-8 cut off within a character', Buffer.from(text({ requestId: '€' })).subarray(0, -4), 'invalid_json'],
  [
    'UTF-8 that encodes a surrogate',
    Buffer.concat([Buffer.from('{"clientId":"'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
    'invalid_json',
  ],
  ['UTF-16', Buffer.from(text({}), 'utf16le'), 'invalid_json'],
  ...['null', '7', '"text"', '[]', 'true'].map((value): [string, string, HttpErrorCode, string] => [
    `${value} in place of the object`,
    value,
    'invalid_request',
    'body',
  ]),
  [
    'lists 10,000 deep in a field',
    text({ clientId: 0 }).replace(':0,', `:${deep(10_000)},`),
    'invalid_request',
    'clientId',
  ],
  ['objects 10,000 deep in a field', with_(`"limits":${wide(10_000)}`), 'invalid_request', 'limits'],
  ['a body 10,000 deep', deep(10_000), 'invalid_request', 'body'],
  ['30,000 lists that are never closed', '['.repeat(30_000), 'invalid_json'],
];

describe('bad input', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });

  after('nothing was consumed, and the node goes on answering', async () => {
    const { json } = await call(node, `/v1/clients/${VICTIM}`);
    expect((json as { buckets: unknown[] }).buckets).to.deep.equal([]);
    expect(await allow(node, { ...good, limit: 5 })).to.include({ allowed: true, remaining: 4 });
  });

  for (const [what, body, code, field] of badBodies) {
    it(`is refused by name: ${what}`, async () => {
      const problem = expectProblem(await post(node, '/v1/allow', body), code, field);
      expect(problem.expected).to.be.a('string').that.is.not.empty;
    });
  }

  it('takes 64 KiB, and refuses one byte more', async () => {
    const body = JSON.stringify({ ...good, clientId: newClient() });
    expect((await allow(node, body.padEnd(KIB_64))).allowed).to.equal(true);
    expectProblem(await post(node, '/v1/allow', text({}).padEnd(KIB_64 + 1)), 'too_large', 'body');
  });

  it('counts the bytes of a body sent in chunks', async () => {
    const chunked = (body: string): Buffer[] => [
      Buffer.from(`POST /v1/allow HTTP/1.1\r\nHost: x\r\n${JSON_CLOSE}Transfer-Encoding: chunked\r\n\r\n`),
      ...(body.match(/[^]{1,10000}/g) ?? []).map((part) => Buffer.from(`${part.length.toString(16)}\r\n${part}\r\n`)),
      Buffer.from('0\r\n\r\n'),
    ];
    const body = JSON.stringify({ ...good, clientId: newClient() });
    const [fits] = await exchange(node.port, ...chunked(body.padEnd(KIB_64)));
    expect(fits?.status).to.equal(200);
    const [tooLarge] = await exchange(node.port, ...chunked(text({}).padEnd(KIB_64 + 1)));
    expectProblem(tooLarge!, 'too_large', 'body');
    expect(tooLarge?.headers['connection']).to.equal('close');
    const [huge] = await exchange(node.port, ...chunked(text({}).padEnd(4_000_000)));
    expectProblem(huge!, 'too_large', 'body');
  });

  it('refuses a body announced as too large before it comes', async () => {
    const head = `POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 70000\r\n\r\n`;
    const [answer] = await exchange(node.port, head);
    expectProblem(answer!, 'too_large', 'body');
  });

  it('refuses every content type but JSON', async () => {
    const types = [
      'text/plain',
      'application/x-www-form-urlencoded',
      'application/jsonp',
      'application/json;charset=utf-16',
      'application/json; foo=bar; Charset = "latin1"',
      'application/json; charset=utf-8x',
      'application/json; charset=',
      'application/json, text/plain',
      'text/plain; application/json',
    ];
    for (const path of ['/v1/allow', '/v1/allow/batch']) {
      for (const type of types) {
        const answer = await call(node, path, { method: 'POST', headers: { 'content-type': type }, body: text({}) });
        expectProblem(answer, 'unsupported_media_type', 'Content-Type');
      }
      expectProblem(
        await call(node, path, { method: 'POST', body: text({}) }),
        'unsupported_media_type',
        'Content-Type',
      );
    }
  });

  it('refuses a compressed body', async () => {
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip' };
    const answer = await call(node, '/v1/allow', { method: 'POST', headers, body: gzipSync(text({})) });
    expectProblem(answer, 'unsupported_media_type', 'Content-Encoding');
  });

  it('refuses every method but POST, and says so', async () => {
    for (const path of ['/v1/allow', '/v1/allow/batch', '/v1/allow?x']) {
      for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']) {
        const [answer] = await exchange(node.port, frame(path, text({}), { method, headers: JSON_CLOSE }));
        expectProblem(answer!, 'method_not_allowed');
        expect(answer?.headers['allow']).to.equal('POST');
      }
      const head = await call(node, path, { method: 'HEAD' });
      expect(head).to.include({ status: 405, text: '' });
    }
  });

  it('refuses a broken percent encoding in an address', async () => {
    for (const id of ['%', '%z0', '%c3%28', '%ed%a0%80', '%ff']) {
      for (const method of ['GET', 'DELETE']) {
        expectProblem(await call(node, `/v1/clients/${id}`, { method }), 'invalid_request', 'path');
      }
    }
  });
});

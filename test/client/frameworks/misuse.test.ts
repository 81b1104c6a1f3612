import 'reflect-metadata';
import { expect } from 'chai';
import { fastify } from 'fastify';
import { rateLimit as ofExpress } from '../../../src/client/frameworks/express.js';
import { rateLimit as ofFastify, rateLimitPlugin } from '../../../src/client/frameworks/fastify.js';
import { rateLimit as ofHono } from '../../../src/client/frameworks/hono.js';
import { rateLimit as ofKoa } from '../../../src/client/frameworks/koa.js';
import { RateLimit, rateLimitGuard } from '../../../src/client/frameworks/nestjs.js';

const CHECKS = { check: () => Promise.reject(new Error('not asked')) };
const limiter = CHECKS;
const key = (): string => 'x';

const CREATE: Readonly<Record<string, (options: never) => unknown>> = {
  Express: ofExpress,
  Fastify: ofFastify,
  Hono: ofHono,
  Koa: ofKoa,
  'the guard of NestJS': rateLimitGuard,
  'the decorator of NestJS': RateLimit,
};

/** Options of other packages, and the words of the message that says what to write instead. */
const OTHERS: readonly [name: string, words: string][] = [
  ['max', '`limit`'],
  ['keyGenerator', '`key`'],
  ['standardHeaders', '`headers`'],
  ['store', 'createNode({ store })'],
  ['requestPropertyName', '`ctx.state`'],
  ['timeWindow', '`window`'],
  ['allowList', '`skip`'],
  ['ban', 'deny list'],
  ['skipOnError', '`onUnavailable: "open"`'],
  ['unavailableStatus', '`onUnavailable: "closed"`'],
  ['errorResponseBuilder', '`onDenied`'],
  ['nameSpace', '`name`'],
  ['hook', 'rateLimit(options)'],
  ['continueExceeding', 'a denial consumes nothing'],
  ['ttl', '`window`'],
  ['getTracker', '`key`'],
  ['generateKey', '`key`'],
  ['skipIf', '`skip`'],
  ['throttlers', '`limits`'],
  ['blockDuration', '`Retry-After`'],
  ['points', '`limit`'],
  ['duration', '`window`'],
  ['interval', '`window`'],
  ['driver', 'createNode({ store })'],
  ['disableHeader', '`headers: false`'],
  ['binding', '`limiter`'],
];

describe('a limiter with wrong options', () => {
  for (const [framework, create] of Object.entries(CREATE)) {
    const creating = (options: unknown) => () => create(options as never);

    it(`of ${framework} names an option of another package, and its name here`, () => {
      for (const [name, words] of OTHERS)
        expect(creating({ limiter, key, limit: 1, window: '1m', [name]: 1 }), name)
          .to.throw(TypeError)
          .with.property('message')
          .that.satisfies((text: string) => text.startsWith(`rateLimit: ${name}: there is no such option; `))
          .and.includes(words);
    });

    it(`of ${framework} names what is missing, mistyped, or not valid`, () => {
      const table: [options: unknown, message: RegExp][] = [
        [undefined, /^rateLimit: expected options: /],
        [CHECKS, /^rateLimit: expected options: /],
        [{ limiter: Promise.resolve(CHECKS), key, limit: 1, window: '1m' }, /^rateLimit: limiter: it is a promise/],
        [{ limiter, key }, /^rateLimit: limit: missing/],
        [{ limiter, key, limit: 1 }, /^rateLimit: window: missing/],
        [{ limiter, key, limit: 1, widnow: '1m' }, /^rateLimit: widnow: .* did you mean `window`\?$/],
        [{ limiter, key: 'ip', policy: 'p' }, /^rateLimit: key: "ip" is not valid; use a function$/],
        [{ limiter, key, policy: 'p', name: 'a"\r\nSet-Cookie: b' }, /^rateLimit: name: .* is not valid; use 1 to 64/],
        [
          { limiter, key, policy: 'p', onUnavailable: 'local' },
          /^rateLimit: onUnavailable: "local" .* use "open", "closed"/,
        ],
        [{ limiter, key, policy: 'p', skipFailed: true }, /^rateLimit: limiter: .*`settle`/],
        [JSON.parse('{"limiter":1,"__proto__":{}}'), /^rateLimit: __proto__: there is no such option/],
        [{ limiter, key, policy: 'p', constructor: 1 }, /^rateLimit: constructor: there is no such option/],
        [{ limiter, key, policy: 'p', wait: '1s' }, /^rateLimit: limiter: expected one with `acquire`/],
      ];
      for (const [options, message] of table) expect(creating(options), String(message)).to.throw(TypeError, message);
    });
  }

  it('fails the registration of the Fastify plugin', async () => {
    const app = fastify();
    const failed = await Promise.resolve(app.register(rateLimitPlugin, { limiter, max: 3 } as never)).then(
      () => undefined,
      (error: unknown) => String(error),
    );
    expect(failed).to.match(/^TypeError: rateLimit: max: .* `max` is `limit` here$/);
  });
});

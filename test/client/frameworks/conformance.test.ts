import { get } from 'node:http';
import { expect } from 'chai';
import type { Decision } from '../../../src/limits/decide/decision.js';
import type { Limiter } from '../../../src/limits/request/limiter.js';
import { createNode, type Node } from '../../../src/index.js';
import { eventually } from '../../support/eventually.js';
import { call } from '../../support/http.js';
import type { App, AppSpec, LimiterOptions } from './apps/app.js';
import { expressApp } from './apps/express.js';
import { fastifyApp } from './apps/fastify.js';
import { honoApp } from './apps/hono.js';
import { koaApp } from './apps/koa.js';
import { nestExpressApp, nestFastifyApp } from './apps/nestjs.js';
import { CASES } from './cases.js';
import { shown } from './shown.js';

/** A promise, and its resolver. Node 20 has no `Promise.withResolvers`. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => (resolve = done));
  return { promise, resolve };
}

/** Without headers, which are not the point. */
const bare = (options: LimiterOptions): LimiterOptions => ({ ...options, headers: false });
const FRAMEWORKS = [expressApp, fastifyApp, koaApp, honoApp, nestExpressApp, nestFastifyApp];
const POLICIES = { policies: { nine: { limit: 9, window: '1h' } } } as const;

for (const framework of FRAMEWORKS) {
  describe(`limiters of ${framework.name}`, function () {
    this.timeout(20_000);
    let node: Node;
    const apps: App[] = [];
    beforeEach(async () => {
      node = await createNode({ policies: POLICIES });
    });
    afterEach(async () => {
      await Promise.all(apps.splice(0).map((app) => app.close()));
      await node.close();
    });

    async function open(spec: AppSpec): Promise<App> {
      const app = await framework.start(spec);
      apps.push(app);
      return app;
    }

    const leftOf = (client: string, more: { scope?: string } = {}): Promise<number> =>
      node.remaining(client, 5, '1h', more);

    for (const [group, cases] of CASES) {
      describe(group, () => {
        for (const { title, spec, asks = [{}], answers, events = [], left = {} } of cases) {
          it(title, async () => {
            const noted: unknown[] = [];
            const app = await open(spec({ limiter: node, events: noted }));
            const got: unknown[] = [];
            for (const ask of asks) got.push(shown(await call(app, '/', ask)));
            // A field that is `undefined` in the table is one that the answer does not have.
            expect(got).to.deep.equal(JSON.parse(JSON.stringify(answers)));
            expect(noted).to.deep.equal(events);
            for (const [scope, tokens] of Object.entries(left))
              expect(
                await eventually(
                  () => leftOf('x', scope === '' ? {} : { scope }),
                  (now) => now === tokens,
                ),
              ).to.equal(tokens);
          });
        }
      });
    }

    describe('clients of policies', () => {
      const plans = {
        tiers: { free: { limit: 1, window: '1h' }, pro: { limit: 5, window: '1h' } },
        defaultTier: 'free',
      } as const;
      let planned: Node;
      beforeEach(async () => {
        planned = await createNode({
          policies: {
            policies: { api: plans },
            clients: { pro: { tier: 'pro' }, own: { overrides: { api: { limit: 9 } } } },
            deny: ['load5'],
            allow: ['friend'],
          },
        });
      });
      afterEach(() => planned.close());

      /** Asks an app with this limiter behind two others that have no names. */
      async function askAs(client: string, more: object): Promise<readonly [status: unknown, body: unknown]> {
        const key = (): string => client;
        const nine = { limiter: planned, limit: 9, window: '1h', key: () => 'nobody' } as const;
        const app = await open({
          limiters: [bare(nine), bare(nine), bare({ limiter: planned, key, ...more })],
        });
        const { status, body } = shown(await call(app, '/'));
        return [status, body];
      }

      for (const name of [undefined, 'reports']) {
        const named = name === undefined ? {} : { name };
        const like = name === undefined ? 'without a name' : 'of a name';

        it(`are refused and let in by the lists, also by a limiter ${like}`, async () => {
          const none = { limit: 0, window: '1h', ...named };
          expect((await askAs('load5', { limit: 9, window: '1h', ...named }))[0]).to.equal(429);
          expect((await askAs('friend', none))[0]).to.equal(200);
          expect((await askAs('stranger', none))[0]).to.equal(429);
        });

        it(`have their tiers and overrides, also by a limiter ${like}`, async () => {
          const api = { policy: 'api', ...named };
          expect((await askAs('pro', api))[1]).to.equal('allowed, 4 of 5 left');
          expect((await askAs('own', api))[1]).to.equal('allowed, 8 of 9 left');
          expect((await askAs('other', api))[1]).to.equal('allowed, 0 of 1 left');
        });
      }

      it('have one description with the buckets of all limiters, and are forgotten by all of them', async () => {
        await askAs('alice', { limit: 9, window: '1h', name: 'reports' });
        await askAs('alice', { policy: 'api' });
        const { buckets } = await planned.describe('alice');
        expect(buckets.map(({ scope, policy }) => [scope, policy])).to.have.deep.members([
          ['reports', undefined],
          [undefined, 'api'],
        ]);
        await planned.reset('alice');
        expect((await planned.describe('alice')).buckets).to.deep.equal([]);
      });
    });

    describe('connections that break', () => {
      const FIVE = { limit: 5, window: '1h', key: () => 'x' } as const;

      /** Asks, and breaks the connection off once `when` has come. */
      async function askAndGo({ port }: App, when: Promise<unknown>): Promise<void> {
        const asked = get({ port, host: '127.0.0.1' });
        asked.on('error', () => undefined);
        const closed = new Promise((resolve) => asked.once('close', resolve));
        await when;
        asked.destroy();
        await closed;
      }

      it('give back what the handler breaks off', async () => {
        const app = await open({
          limiters: [{ limiter: node, ...FIVE, skipFailed: true }],
          handler: { kind: 'break' },
        });
        await call(app, '/').catch(() => undefined);
        expect(
          await eventually(
            () => leftOf('x'),
            (left) => left === 5,
          ),
        ).to.equal(5);
      });

      it('give back a stream that the caller breaks off, and report its load', async () => {
        const loads: unknown[] = [];
        const load = { begin: () => (ok?: boolean) => void loads.push(ok) };
        const passed = deferred<undefined>();
        const app = await open({
          limiters: [{ limiter: node, ...FIVE, skipFailed: true, load }],
          handler: { kind: 'endless' },
          onPass: () => passed.resolve(undefined),
        });
        await askAndGo(app, passed.promise);
        expect(
          await eventually(
            () => leftOf('x'),
            (left) => left === 5,
          ),
        ).to.equal(5);
        expect(
          await eventually(
            () => loads.length,
            (count) => count === 1,
          ),
        ).to.equal(1);
        expect(loads).to.deep.equal([true]);
      });

      it('reach no handler when the caller goes before the decision, and give its cost back', async () => {
        const asked = deferred<undefined>();
        const go = deferred<undefined>();
        const passes: string[] = [];
        const limiter: Limiter = {
          ...node,
          check: async (request) => {
            asked.resolve(undefined);
            const decision = await node.check(request);
            await go.promise;
            return decision;
          },
        };
        const app = await open({
          limiters: [{ limiter, ...FIVE, skipFailed: true }],
          onPass: () => passes.push('passed'),
        });
        await askAndGo(app, asked.promise);
        // The server learns of it in its own time; another request comes after it.
        await new Promise((resolve) => setTimeout(resolve, 50));
        go.resolve(undefined);
        expect(
          await eventually(
            () => leftOf('x'),
            (left) => left === 5,
          ),
        ).to.equal(5);
        expect(passes).to.deep.equal([]);
      });

      it('end the wait of a caller who has gone, so that it takes nobody’s turn', async () => {
        const waiting = deferred<AbortSignal>();
        const passes: string[] = [];
        const limiter: Limiter = {
          ...node,
          acquire: (request, options) => {
            waiting.resolve(options.signal!);
            return node.acquire(request, options);
          },
        };
        await node.allow('x', 1, '1h');
        const app = await open({
          limiters: [{ limiter, limit: 1, window: '1h', key: () => 'x', wait: '1h' }],
          onPass: () => passes.push('passed'),
        });
        await askAndGo(app, waiting.promise);
        const signal = await waiting.promise;
        expect(await eventually(() => signal.aborted, Boolean)).to.equal(true);
        expect(passes).to.deep.equal([]);
      });

      it('let the server close while a limiter never answers', async () => {
        const asked = deferred<undefined>();
        const passes: string[] = [];
        const limiter = { check: () => (asked.resolve(undefined), new Promise<Decision>(() => undefined)) };
        const app = await open({ limiters: [{ limiter, ...FIVE }], onPass: () => passes.push('passed') });
        await askAndGo(app, asked.promise);
        expect(passes).to.deep.equal([]);
        // afterEach closes the app, and fails when that takes longer than the test may.
      });
    });
  });
}

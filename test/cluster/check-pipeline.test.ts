import { expect } from 'chai';
import { decideAlone, type CheckBatch } from '../../src/limits/decide/check-batch.js';
import { CheckPipeline } from '../../src/node/decide/check-pipeline.js';
import type { Membership } from '../../src/membership/membership.js';
import type { Timers } from '../../src/lib/system.js';
import type { Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { checkMany } from '../support/batch.js';
import { checkOf, tokenBucket } from '../support/rules.js';
import { TopClients } from '../../src/limits/top-clients.js';
import { createFakeClock } from '../support/fake-clock.js';

const RULES = [tokenBucket(10, 1_000)];
const membership = { self: () => ({ id: 'a:1' }), ring: () => ({ owner: () => 'b:1' }) } as unknown as Membership;

function decision(more: Partial<Decision> = {}): Decision {
  return {
    allowed: true,
    limit: 10,
    remaining: 9,
    retryAfterMs: 0,
    resetMs: 100,
    owner: 'b:1',
    source: 'forwarded',
    degraded: false,
    limits: undefined,
    ...more,
  };
}

/** @param answer what the router of checks decides; a promise for what another node decides */
function createSetup(answer: Decision | Promise<Decision>) {
  const asked: Check[] = [];
  const checkRouter = {
    decide(batch: CheckBatch, from?: number, to?: number) {
      const items = batch.items.slice(from, to).filter((item) => !item.isAnswered);
      for (const item of items) asked.push(item.check);
      const answerAll = ({ unreserved, ...one }: Decision): void => {
        for (const item of items) {
          item.record(one, one);
          if (unreserved !== undefined) item.extras = { unreserved };
        }
      };
      if (answer instanceof Promise) return answer.then(answerAll);
      answerAll(answer);
      return undefined;
    },
  };
  const timers = { soon: (action: () => void) => void setImmediate(action) } as unknown as Timers;
  return {
    asked,
    pipeline: new CheckPipeline({
      clock: createFakeClock(0),
      timers,
      checkRouter,
      membership,
      topClients: new TopClients(1),
    }),
  };
}

const termsOf = (more: {
  readonly listed?: 'allow' | 'deny';
  readonly shadow?: boolean;
}): NonNullable<Check['terms']> =>
  ({ listed: more.listed, policy: { name: 'api', shadow: more.shadow ?? false } }) as unknown as NonNullable<
    Check['terms']
  >;

describe('the check pipeline', () => {
  it('answers a batch in its order, with lists and shadow policies as for a single check', async () => {
    for (const denied of [
      decision({ allowed: false, retryAfterMs: 7 }),
      Promise.resolve(decision({ allowed: false })),
    ]) {
      const { pipeline, asked } = createSetup(denied);
      const plain = checkOf(RULES);
      const shadow = { ...plain, terms: termsOf({ shadow: true }) };
      const listed = { ...plain, terms: termsOf({ listed: 'allow' }) };
      const answers = (await checkMany(pipeline, [plain, listed, shadow, plain])) as Decision[];
      expect(answers.map(({ allowed, source }) => `${source} ${allowed}`)).to.deep.equal([
        'forwarded false',
        'owner true',
        'forwarded true',
        'forwarded false',
      ]);
      expect(answers[2]!.shadow?.allowed).to.equal(false);
      expect(asked).to.deep.equal([plain, shadow, plain]);
    }
  });

  it('decides a large batch in several turns, and answers it whole', async () => {
    const { pipeline, asked } = createSetup(decision());
    const checks = Array.from({ length: 1_200 }, (_, i) => checkOf(RULES, { clientId: `client ${i}` }));
    const answering = checkMany(pipeline, checks);
    expect(asked).to.have.length(500);
    expect(await answering).to.have.length(1_200);
    expect(asked).to.deep.equal(checks);
  });

  it('hands a check without policy terms to the router, and its answer back as it is', () => {
    const answer = decision();
    const { pipeline, asked } = createSetup(answer);
    const check = checkOf(RULES);
    expect(decideAlone(pipeline, check)).to.deep.equal(answer);
    expect(asked).to.deep.equal([check]);
  });

  it('answers for clients on a list without the router, and counts nothing for them', () => {
    const { pipeline, asked } = createSetup(decision());
    const allowed = decideAlone(pipeline, { ...checkOf(RULES), terms: termsOf({ listed: 'allow' }) });
    expect(allowed).to.include({ allowed: true, remaining: 10, retryAfterMs: 0 });
    const denied = decideAlone(pipeline, { ...checkOf(RULES), terms: termsOf({ listed: 'deny' }) });
    expect(denied).to.include({ allowed: false, remaining: 0, retryAfterMs: null });
    expect(asked).to.have.lengthOf(0);
  });

  for (const [where, wrap] of [
    ['here', (one: Decision) => one],
    ['by another node', (one: Decision) => Promise.resolve(one)],
  ] as const) {
    it(`lets a shadow policy deny nobody, counts what it would have denied, and says so: decided ${where}`, async () => {
      const { pipeline } = createSetup(wrap(decision({ allowed: false, retryAfterMs: 70 })));
      const answer = await decideAlone(pipeline, { ...checkOf(RULES), terms: termsOf({ shadow: true }) });
      expect(answer).to.include({ allowed: true, retryAfterMs: 0 });
      expect(answer.shadow).to.deep.equal({ allowed: false, retryAfterMs: 70 });
      expect(pipeline.shadowDenials.get('api')).to.equal(1);
    });

    it(`names the reservation of an admitted cost: decided ${where}`, async () => {
      const { pipeline } = createSetup(wrap(decision()));
      expect(await decideAlone(pipeline, { ...checkOf(RULES), reservation: 'r1' })).to.include({ reservation: 'r1' });
    });
  }

  it('names no reservation for a denial, a peek, or a decision that the owner does not know of', async () => {
    for (const [answer, more] of [
      [decision({ allowed: false }), {}],
      [decision(), { peek: true }],
      [decision({ source: 'fallback' }), {}],
    ] as const) {
      const { pipeline } = createSetup(answer);
      expect(await decideAlone(pipeline, { ...checkOf(RULES, more), reservation: 'r1' })).not.to.have.property(
        'reservation',
      );
    }
  });
});

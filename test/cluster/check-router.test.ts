import { expect } from 'chai';
import { CheckBatch, decideAlone } from '../../src/limits/decide/check-batch.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { BucketTable } from '../../src/state/bucket-table.js';
import { Copies } from '../../src/state/copies.js';
import type { LeaseHolder } from '../../src/node/leases/holder.js';
import { DecisionGate } from '../../src/membership/decision-gate.js';
import { Router } from '../../src/membership/route.js';
import { Confirmer } from '../../src/replication/confirmer.js';
import { ClientAdmin } from '../../src/node/client-admin.js';
import { CheckRouter } from '../../src/node/decide/check-router.js';
import { Owner } from '../../src/node/decide/owner.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import type { Replicator } from '../../src/replication/replicator.js';
import { Reservations } from '../../src/state/reservations.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { BoundedMap } from '../../src/client/bounded-map.js';
import { Denials } from '../../src/limits/decide/denials.js';
import { TopClients } from '../../src/limits/top-clients.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { checkOf, slidingWindow, tokenBucket } from '../support/rules.js';
import { loneMembership } from '../support/lone-membership.js';

/** What the only member of a ring has no use for. */
const unused = (name: string) =>
  new Proxy({}, { get: (_, property) => expect.fail(`${name}.${String(property)} was used`) }) as never;

interface Lone {
  readonly clock: FakeClock;
  readonly table: BucketTable;
  readonly checkRouter: CheckRouter;
  readonly describe: ClientAdmin['describeHere'];
  readonly gate: DecisionGate;
  /** The clients of which copies are to be sent, each time anew. */
  readonly changed: readonly string[];
  /** Asks, and expects to be answered at once. */
  readonly ask: (options?: Partial<Check>) => Decision;
}

/** The router of checks of the only member of a ring, which decides for every client. */
function createLone(): Lone {
  const clock = createFakeClock(1_000);
  const table = new BucketTable({ maxClients: 100 });
  const recent = new RecentDecisions(clock, 'a:1', 1e6);
  const membership = loneMembership(clock);
  membership.declare('active');
  const reservations = new Reservations(clock, { maxBytes: 1e6 });
  const changed: string[] = [];
  const replicator: Pick<Replicator, 'changed'> = { changed: (client) => changed.push(client.id) };
  let checks = 0;
  const topClients = new TopClients(1);
  const gate = new DecisionGate();
  // A check that is put off for ever must fail, not hang.
  const detectPause = (): void => (++checks > 1_000 ? expect.fail('checks again and again') : undefined);
  const checkRouter = new CheckRouter({
    clock,
    router: new Router({ clock, membership, gate, detectPause }),
    topClients,
    owner: new Owner('a:1', {
      topClients,
      table,
      recent,
      reservations,
      replicator: replicator,
      pauseLending: () => undefined,
      noteActing: () => undefined,
      confirmer: new Confirmer(unused('replicator'), undefined),
    }),
    leaseHolder: { spend: () => undefined } as unknown as LeaseHolder,
    denials: new Denials(new BoundedMap(10)),
    forwarder: unused('forwarder'),
    fallback: unused('fallback'),
  });
  const admin = new ClientAdmin(
    { clock, table, membership } as unknown as ConstructorParameters<typeof ClientAdmin>[0],
    { timeoutMs: 1 },
  );
  return {
    clock,
    table,
    checkRouter,
    describe: (clientId) => admin.describeHere(clientId),
    gate,
    changed,
    ask(options) {
      const decision = decideAlone(checkRouter, checkOf([tokenBucket(10, 1_000)], options));
      if (decision instanceof Promise) expect.fail('was not decided at once');
      return decision;
    },
  };
}

describe('the router of checks', () => {
  it('decides at once for the clients of its node, and says who decided', () => {
    const { ask } = createLone();
    expect(ask()).to.deep.equal({
      allowed: true,
      limit: 10,
      remaining: 9,
      retryAfterMs: 0,
      resetMs: 100,
      limits: undefined,
      owner: 'a:1',
      source: 'owner',
      degraded: false,
    });
    expect(ask({ cost: 9 }).remaining).to.equal(0);
    expect(ask()).to.deep.include({ allowed: false, retryAfterMs: 100 });
  });

  it('keeps clients apart, whatever they are called', () => {
    const { ask } = createLone();
    for (const clientId of [
      'alice',
      'Alice',
      'alice ',
      '__proto__',
      'constructor',
      'toString',
      '💧',
      '\u00e9',
      'e\u0301',
    ]) {
      expect(ask({ clientId, cost: 10 }).allowed, clientId).to.equal(true);
      expect(ask({ clientId }).allowed, clientId).to.equal(false);
    }
  });

  describe('asked again in a batch with a request id', () => {
    const batchOf = (batchId: string | undefined, ...checks: Partial<Check>[]): CheckBatch => {
      const batch = new CheckBatch(undefined, batchId);
      for (const [place, { clientId = 'alice', ...more }] of checks.entries()) {
        const requestId = batchId === undefined || more.peek === true ? undefined : `${batchId}#${place}`;
        batch.add(createCheck(clientKey(clientId), RULES, { requestId, ...more }));
      }
      return batch;
    };
    const RULES = [ruleOf('token-bucket', 10, 60_000, 10, undefined)];
    const askAll = ({ checkRouter }: Lone, batch: CheckBatch): number[] => {
      expect(checkRouter.decide(batch)).to.equal(undefined);
      return batch.items.map(({ decision }) => decision.remaining);
    };

    it('gives the first decisions for 60 s, item by item, and consumes nothing', () => {
      const lone = createLone();
      const clients = [{ clientId: 'alice' }, { clientId: 'bob' }, { clientId: 'alice' }];
      expect(askAll(lone, batchOf('b', ...clients))).to.deep.equal([9, 9, 8]);
      lone.clock.advance(60_000);
      expect(askAll(lone, batchOf('b', ...clients))).to.deep.equal([9, 9, 8]);
      lone.clock.advance(60_001);
      expect(askAll(lone, batchOf('b', ...clients))).to.deep.equal([9, 9, 8]);
      expect(askAll(lone, batchOf('d', ...clients))).to.deep.equal([7, 8, 6]);
    });

    it('gives them to an item that comes alone or in another batch, and to a batch after its item came alone', () => {
      const lone = createLone();
      expect(askAll(lone, batchOf('b', {}, {}))).to.deep.equal([9, 8]);
      expect(decideAlone(lone.checkRouter, createCheck(clientKey('alice'), RULES, { requestId: 'b#1' }))).to.include({
        remaining: 8,
      });
      expect(askAll(lone, batchOf('other', {}, { requestId: 'b#0' }))).to.deep.equal([7, 9]);
      expect(decideAlone(lone.checkRouter, createCheck(clientKey('alice'), RULES, { requestId: 'late#1' }))).to.include(
        {
          remaining: 6,
        },
      );
      expect(askAll(lone, batchOf('late', {}, {}))).to.deep.equal([5, 6]);
    });

    it('decides anew for another client at the place, and remembers both', () => {
      const lone = createLone();
      expect(askAll(lone, batchOf('b', { clientId: 'alice' }))).to.deep.equal([9]);
      expect(askAll(lone, batchOf('b', { clientId: 'bob', cost: 3 }))).to.deep.equal([7]);
      expect(askAll(lone, batchOf('b', { clientId: 'alice' }))).to.deep.equal([9]);
      expect(askAll(lone, batchOf('b', { clientId: 'bob', cost: 3 }))).to.deep.equal([7]);
    });

    it('decides peeks anew', () => {
      const lone = createLone();
      expect(askAll(lone, batchOf('b', { peek: true }, {}))).to.deep.equal([10, 9]);
      expect(askAll(lone, batchOf('b', { peek: true }, {}))).to.deep.equal([9, 9]);
    });
  });

  describe('asked again under the same request id', () => {
    it('gives the first decision for 60 s, and consumes nothing', () => {
      const { ask, clock, changed } = createLone();
      const first = ask({ requestId: 'r1', cost: 3 });
      clock.advance(60_000);
      expect(ask({ requestId: 'r1', cost: 3 })).to.deep.equal(first);
      // Nor does it matter what else the repeated request says.
      expect(ask({ requestId: 'r1', rules: [tokenBucket(0, 5)], peek: true })).to.deep.equal(first);
      expect(changed).to.deep.equal(['alice']);
      expect(ask({ peek: true }).remaining).to.equal(10);
      clock.advance(1);
      expect(ask({ requestId: 'r1', cost: 3 }).remaining).to.equal(7);
      expect(ask({ peek: true }).remaining).to.equal(7);
    });

    it('gives a denial again, though it would pass by now', () => {
      const { ask, clock } = createLone();
      ask({ cost: 10 });
      const denial = ask({ requestId: 'r1' });
      expect(denial.allowed).to.equal(false);
      clock.advance(1_000);
      expect(ask({ requestId: 'r1' })).to.deep.equal(denial);
      expect(ask({ peek: true }).remaining).to.equal(10);
    });

    it('gives it however often the table was swept meanwhile', () => {
      const { ask, clock, table } = createLone();
      ask({ cost: 10 });
      const denial = ask({ requestId: 'r1' });
      clock.advance(59_999);
      table.sweep(100, clock.nowMs());
      expect([ask({ requestId: 'r1' }), table.size()]).to.deep.equal([denial, 1]);
      clock.advance(1);
      table.sweep(100, clock.nowMs());
      expect(table.size()).to.equal(0);
    });

    it('decides anew for another client', () => {
      const { ask } = createLone();
      ask({ requestId: 'r1', cost: 10 });
      expect(ask({ requestId: 'r1', clientId: 'bob' }).remaining).to.equal(9);
    });

    it('decides anew after a peek, which was no decision to hold to', () => {
      const { ask } = createLone();
      expect(ask({ requestId: 'r1', peek: true }).remaining).to.equal(10);
      expect(ask({ requestId: 'r1' }).remaining).to.equal(9);
      expect(ask({ requestId: 'r1' }).remaining).to.equal(9);
    });
  });

  it('keeps nothing of clients who were only denied or peeked at', () => {
    const { ask, table, changed } = createLone();
    ask({ peek: true });
    ask({ cost: 11 });
    ask({ rules: [slidingWindow(0, 1_000)] });
    ask({ rules: [tokenBucket(5, 1_000), slidingWindow(0, 1_000)] });
    expect(table.size()).to.equal(0);
    expect(changed).to.deep.equal([]);
  });

  it('sends no copies for a denial or a peek, which change nothing', () => {
    const { ask, changed } = createLone();
    ask({ cost: 10 });
    ask();
    ask({ peek: true });
    expect(changed).to.deep.equal(['alice']);
  });

  it('describes what a client has consumed under each limit, and consumes nothing', () => {
    const { ask, clock, describe } = createLone();
    const login = { ...slidingWindow(5, 3_200), policy: 'login', scope: 'web' };
    ask({ cost: 4 });
    ask({ rules: [login], cost: 2 });
    clock.advance(100);
    const description = {
      clientId: 'alice',
      owner: 'a:1',
      buckets: [
        {
          scope: 'web',
          policy: 'login',
          algorithm: 'sliding-window',
          windowMs: 3_200,
          limit: 5,
          remaining: 3,
          resetMs: 3_100,
        },
        {
          scope: undefined,
          policy: undefined,
          algorithm: 'token-bucket',
          windowMs: 1_000,
          limit: 10,
          remaining: 7,
          resetMs: 300,
        },
      ],
    };
    expect(describe('alice')).to.deep.equal(description);
    expect(describe('alice')).to.deep.equal(description);
    expect(describe('bob')).to.deep.equal({ clientId: 'bob', owner: 'a:1', buckets: [] });
  });

  it('describes it under the last limit that was not 0, at whose rate it decays', () => {
    const { ask, describe } = createLone();
    ask({ cost: 4 });
    ask({ rules: [tokenBucket(0, 1_000)] });
    expect(describe('alice').buckets[0]).to.include({ limit: 10, remaining: 6 });
  });

  it('counts a limit that a client loses to its 65th, and not one at rest', () => {
    const { ask, clock, table, describe } = createLone();
    for (let i = 1; i <= 63; i += 1) ask({ rules: [tokenBucket(1, i * 1_000_000)] });
    ask({ rules: [tokenBucket(1, 1)] });
    clock.advance(1);
    ask({ rules: [tokenBucket(1, 64_000_000)] });
    expect([describe('alice').buckets.length, table.unexpiredEvictions()]).to.deep.equal([64, 0]);
    ask({ rules: [tokenBucket(1, 65_000_000), tokenBucket(1, 66_000_000)] });
    expect([describe('alice').buckets.length, table.unexpiredEvictions()]).to.deep.equal([64, 2]);
    expect(ask({ rules: [tokenBucket(1, 3_000_000)] }).allowed).to.equal(false);
    expect(ask({ rules: [tokenBucket(1, 2_000_000)] }).allowed, 'the second to come').to.equal(true);
  });

  it('counts a limit lost to copies that come from another node', () => {
    const { clock, table } = createLone();
    const copies = new Copies({
      clock,
      table,
      recent: new RecentDecisions(clock, 'a:1', 1e6),
      reservations: new Reservations(clock, { maxBytes: 1e6 }),
      self: 'a:1',
    });
    const snapshots = Array.from({ length: 66 }, (_, i) => {
      return { ...tokenBucket(1, (i + 1) * 1_000_000), ruleChanges: 0, state: [1, 0] };
    });
    copies.mergeStored([['alice', snapshots]]);
    expect(table.unexpiredEvictions()).to.equal(2);
  });

  it('starts afresh for a client whom the table has forgotten', () => {
    const { ask, table, describe } = createLone();
    ask({ cost: 10 });
    table.delete('alice');
    expect(describe('alice').buckets).to.deep.equal([]);
    expect(ask().remaining).to.equal(9);
  });

  it('makes all checks wait while it is held, by however many, and then decides them', async () => {
    const { checkRouter, gate, ask } = createLone();
    const releases = [gate.close(), gate.close(), gate.close()];
    const waiting = decideAlone(checkRouter, checkOf([tokenBucket(10, 1_000)]));
    expect(waiting).to.be.instanceOf(Promise);
    let decided = false;
    void Promise.resolve(waiting).then(() => (decided = true));
    // Those who hold it let go in any order.
    for (const i of [1, 0]) {
      releases[i]!();
      await new Promise((resolve) => setImmediate(resolve));
      expect(decided).to.equal(false);
    }
    releases[2]!();
    expect((await waiting).remaining).to.equal(9);
    expect(ask().remaining).to.equal(8);
  });
});

import { expect } from 'chai';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { Summary } from '../../src/lib/space-saving.js';
import { TopClients, mergeTop } from '../../src/limits/top-clients.js';
import { createRandom } from '../sim/random.js';

const key = (clientId: string, policy?: string) => ({ clientId, policy, hash: clientKey(clientId).hashHigh });
const rule = (policy?: string) => ruleOf('token-bucket', 10, 1_000, 10, policy);

function summary(size: number, nameBytes = 10_000): Summary {
  return new Summary({ size, nameBytes, decayMs: 60_000 });
}

describe('a summary of the largest counts', () => {
  it('is exact while it has room', () => {
    const counts = summary(3);
    for (const [clientId, times] of [
      ['a', 3],
      ['b', 5],
      ['c', 1],
    ] as const)
      for (let i = 0; i < times; i += 1) counts.add(key(clientId), 1, 0, 0);
    expect(counts.list(0)).to.deep.equal([
      { clientId: 'b', count: 5, error: 0, source: { node: 5, sdk: 0 } },
      { clientId: 'a', count: 3, error: 0, source: { node: 3, sdk: 0 } },
      { clientId: 'c', count: 1, error: 0, source: { node: 1, sdk: 0 } },
    ]);
    expect(counts.floor(0)).to.equal(0);
  });

  it('bounds its error by the count that a newcomer replaces', () => {
    const counts = summary(2);
    counts.add(key('a'), 5, 0, 0);
    counts.add(key('b'), 2, 0, 0);
    counts.add(key('c'), 1, 0, 0);
    expect(counts.list(0)).to.deep.equal([
      { clientId: 'a', count: 5, error: 0, source: { node: 5, sdk: 0 } },
      { clientId: 'c', count: 3, error: 2, source: { node: 3, sdk: 0 } },
    ]);
    expect(counts.floor(0)).to.equal(2);
  });

  it('holds every true count within its error, whatever comes', () => {
    const random = createRandom(7);
    for (let run = 0; run < 20; run += 1) {
      const counts = summary(20);
      const truth = new Map<string, number>();
      for (let i = 0; i < 3_000; i += 1) {
        const clientId = `client ${Math.floor(200 * random.next() ** 3)}`;
        counts.add(key(clientId), 1, 0, 0);
        truth.set(clientId, (truth.get(clientId) ?? 0) + 1);
      }
      const listed = counts.list(0);
      for (const { clientId, count, error } of listed) expect(truth.get(clientId)).to.be.within(count - error, count);
      for (const [clientId, count] of truth)
        if (!listed.some((one) => one.clientId === clientId)) expect(count).to.be.at.most(counts.floor(0));
      // The theorem of Space-Saving: what has more than its share of the size is listed.
      for (const [clientId, count] of truth)
        if (count > 3_000 / 20) expect(listed.map((one) => one.clientId)).to.include(clientId);
    }
  });

  it('decays to 1/e in the decay time, also over many of them', () => {
    const counts = summary(2);
    counts.add(key('a'), 100, 0, 0);
    expect(counts.list(60_000)[0]!.count).to.be.closeTo(100 / Math.E, 1e-6);
    for (let minute = 2; minute < 500; minute += 1) counts.add(key('b'), 1, 0, minute * 60_000);
    const [b, a] = counts.list(499 * 60_000);
    expect(b!.count).to.be.closeTo(Math.E / (Math.E - 1), 1e-6);
    expect(a!.count).to.be.closeTo(0, 1e-6);
  });

  it('keeps its counts, errors, and floor over spans after which a double would not hold the weights', () => {
    const counts = summary(2);
    const far = 101 * 60_000;
    // So much that a part of it is left after 101 decay times.
    const amount = Math.exp(101);
    counts.add(key('a'), 5 * amount, 9 * amount ** 2, 0);
    counts.add(key('b'), 2 * amount, 0, 0);
    counts.add(key('c'), amount, 0, 0);
    const [a, c] = counts.list(far);
    expect(a).to.include({ clientId: 'a' });
    expect(a!.count).to.be.closeTo(5, 1e-9);
    expect(a!.error).to.be.closeTo(6, 1e-9);
    expect(c!.count).to.be.closeTo(3, 1e-9);
    expect(c!.error).to.be.closeTo(2, 1e-9);
    expect(counts.floor(far)).to.be.closeTo(2, 1e-9);
    expect(Number.isFinite(counts.list(20 * far)[0]!.count)).to.equal(true);
    expect(counts.list(20 * far)[0]!.count).to.be.at.most(1e-9);
  });

  it('holds a count of now after any pause, and the errors and the floor decay as the counts do', () => {
    const counts = summary(2);
    counts.add(key('a'), 5, 0, 0);
    counts.add(key('b'), 2, 9, 0);
    counts.add(key('c'), 1, 0, 0);
    const [, c] = counts.list(60_000);
    expect(c!.error).to.be.closeTo(2 / Math.E, 1e-9);
    expect(counts.floor(60_000)).to.be.closeTo(2 / Math.E, 1e-9);
    counts.add(key('a'), 7, 9, 60_000);
    const [a] = counts.list(60_000);
    expect(a!.count).to.be.closeTo(7 + 5 / Math.E, 1e-9);
    expect(a!.error).to.be.closeTo(6, 1e-9);
    // After so long, a double holds no weight that still counts from the beginning.
    const later = 800 * 60_000;
    counts.add(key('d'), 3, 0, later);
    expect(counts.list(later)[0]).to.deep.include({ clientId: 'd' });
    expect(counts.list(later)[0]!.count).to.be.closeTo(3, 1e-9);
  });

  it('fills the room for names to the last character, of clients and policies, and takes one name that exceeds it', () => {
    const counts = summary(10, 10);
    counts.add(key('aaaaa'), 2, 0, 0);
    counts.add(key('bb', 'ccc'), 1, 0, 0);
    expect(counts.list(0)).to.have.length(2);
    counts.add(key('d', 'e'), 1, 0, 0);
    expect(counts.list(0).map(({ clientId }) => clientId)).to.have.members(['aaaaa', 'd']);
    const small = summary(10, 5);
    small.add(key('longer than 5'), 1, 0, 0);
    expect(small.list(0)).to.have.length(1);
  });

  it('finds no client that had to make room', () => {
    const counts = summary(10, 600);
    counts.add(key('a'.repeat(256)), 1, 0, 0);
    counts.add(key('b'.repeat(256)), 2, 0, 0);
    counts.add(key('c'.repeat(500)), 1, 0, 0);
    counts.add(key('b'.repeat(90)), 1, 0, 0);
    counts.add(key('b'.repeat(256)), 1, 0, 0);
    expect(counts.list(0)[0]).to.deep.include({ clientId: 'b'.repeat(256) });
  });

  it('takes one that had to make room for a newcomer', () => {
    const counts = summary(10, 600);
    for (const [clientId, amount] of [
      ['a'.repeat(256), 1],
      ['b'.repeat(256), 2],
      ['c'.repeat(500), 1],
    ] as const)
      counts.add(key(clientId), amount, 0, 0);
    counts.add(key('b'.repeat(256)), 1, 0, 0);
    expect(counts.list(0)).to.deep.equal([
      { clientId: 'b'.repeat(256), count: 4, error: 3, source: { node: 4, sdk: 0 } },
    ]);
  });

  it('keeps fewer counts where names are long', () => {
    const counts = summary(10, 600);
    for (let i = 0; i < 10; i += 1) counts.add(key(`${i}`.repeat(256)), 10 - i, 0, 0);
    expect(counts.list(0)).to.have.length(2);
    expect(counts.floor(0)).to.be.at.least(9);
  });

  it('tells clients of the same hash apart, and a client under two policies', () => {
    const counts = summary(4);
    counts.add({ clientId: 'a', policy: undefined, hash: 1 }, 1, 0, 0);
    counts.add({ clientId: 'b', policy: undefined, hash: 1 }, 2, 0, 0);
    counts.add({ clientId: 'a', policy: 'free', hash: 1 }, 3, 0, 0);
    counts.add({ clientId: 'a', policy: undefined, hash: 1 }, 3, 0, 0);
    counts.add({ clientId: 'b', policy: undefined, hash: 1 }, 0.5, 0, 0);
    expect(counts.list(0).map(({ clientId, policy, count }) => [clientId, policy, count])).to.deep.equal([
      ['a', undefined, 4],
      ['a', 'free', 3],
      ['b', undefined, 2.5],
    ]);
  });
});

describe('the top clients of a node', () => {
  const check = (clientId: string, cost = 1, policy?: string) =>
    createCheck(clientKey(clientId), [rule(policy)], { cost });
  const create = (seed = 1): TopClients => new TopClients(seed);

  it('ranks by denials, requests, and tokens', () => {
    const top = create();
    for (let i = 0; i < 5; i += 1) top.count(check('often'), true, 0);
    for (let i = 0; i < 3; i += 1) top.count(check('denied'), false, 0);
    top.count(check('costly', 100), true, 0);
    const first = (by: 'denied' | 'asked' | 'cost') => top.top(by, 'minute', undefined, 0).clients[0];
    expect(first('asked')).to.deep.equal({ clientId: 'often', count: 5, error: 0, source: { node: 5, sdk: 0 } });
    expect(first('denied')).to.deep.equal({ clientId: 'denied', count: 3, error: 0, source: { node: 3, sdk: 0 } });
    expect(first('cost')).to.deep.equal({ clientId: 'costly', count: 100, error: 0, source: { node: 100, sdk: 0 } });
    expect(top.top('denied', 'hour', undefined, 0).clients).to.have.length(1);
  });

  it('tells what clients with the SDK report from what nodes answer', () => {
    const top = create();
    top.count(check('a'), false, 0);
    top.add(clientKey('a'), undefined, 7, 0);
    for (const by of ['denied', 'asked'] as const)
      expect(top.top(by, 'minute', undefined, 60_000).clients[0]!.source.sdk).to.be.closeTo(7 / Math.E, 1e-9);
    const [merged] = mergeTop([top.top('denied', 'hour', undefined, 0), top.top('denied', 'hour', undefined, 0)], 1);
    expect(merged).to.deep.include({ clientId: 'a', count: 16, source: { node: 2, sdk: 14 } });
  });

  it('selects by policy', () => {
    const top = create();
    top.count(check('a', 1, 'free'), true, 0);
    top.count(check('a', 1, 'paid'), true, 0);
    expect(top.top('asked', 'minute', 'paid', 0).clients).to.deep.equal([
      { clientId: 'a', policy: 'paid', count: 1, error: 0, source: { node: 1, sdk: 0 } },
    ]);
    expect(top.top('asked', 'minute', undefined, 0).clients).to.have.length(2);
  });

  it('lets counts of the hour decay in an hour', () => {
    const top = create();
    top.count(check('a'), true, 0);
    expect(top.top('asked', 'hour', undefined, 3_600_000).clients[0]!.count).to.be.closeTo(1 / Math.E, 1e-9);
    expect(top.top('asked', 'minute', undefined, 60_000).clients[0]!.count).to.be.closeTo(1 / Math.E, 1e-9);
  });

  it('counts every decision again when the rate has fallen', () => {
    const top = create();
    for (let i = 0; i < 20_000; i += 1) top.count(check('burst'), true, i / 20);
    for (let i = 1; i <= 3_000; i += 1) top.count(check('between'), true, 1_000 + i * 10);
    for (let i = 0; i < 5; i += 1) top.count(check('late'), true, 31_000);
    const late = top.top('asked', 'hour', undefined, 31_000).clients.find(({ clientId }) => clientId === 'late');
    expect(late).to.deep.equal({
      clientId: 'late',
      count: late!.count,
      error: 0,
      source: { node: late!.count, sdk: 0 },
    });
    expect(late!.count).to.be.closeTo(5, 1e-9);
  });

  it('passes over most decisions at a high rate, and over none at a low one', () => {
    const top = create();
    const decide = (clientId: string, nowMs: number): boolean => {
      if (top.skip()) return false;
      top.count(check(clientId), true, nowMs);
      return true;
    };
    for (let i = 0; i < 50; i += 1) expect(decide('slow', i * 100)).to.equal(true);
    let counted = 0;
    for (let i = 0; i < 1_000_000; i += 1) if (decide('fast', 5_000 + i / 100)) counted += 1;
    expect(counted).to.be.within(1_000, 10_000);
    const fast = top.top('asked', 'hour', undefined, 15_000).clients[0]!;
    expect(Math.abs(fast.count - 1_000_000)).to.be.below(2 * fast.error + 10_000);
    expect(fast.error).to.be.below(100_000);
  });

  it('states for tokens the error of the requests, as often as each has cost', () => {
    const top = create();
    for (let i = 0; i < 20_000; i += 1) top.count(check('a', 3), true, i / 20);
    const [asked] = top.top('asked', 'hour', undefined, 1_000).clients;
    const [cost] = top.top('cost', 'hour', undefined, 1_000).clients;
    expect(asked!.error).to.be.above(0);
    expect(cost!.count).to.be.closeTo(3 * asked!.count, 1e-6);
    expect(cost!.error).to.be.closeTo(3 * asked!.error, 1e-6);
  });

  it('takes another sample with each seed, of which 0 is one', () => {
    const countWith = (seed: number): number => {
      const top = create(seed);
      for (let i = 0; i < 20_000; i += 1) top.count(check('a'), true, i / 20);
      return top.top('asked', 'hour', undefined, 1_000).clients[0]!.count;
    };
    const counts = [0, 2, 3, 4].map(countWith);
    expect(new Set(counts).size).to.equal(4);
    for (const count of counts) expect(count).to.be.within(15_000, 25_000);
  });

  it('counts no peek', () => {
    const top = create();
    top.count({ ...check('a'), peek: true }, false, 0);
    expect(top.top('asked', 'minute', undefined, 0).clients).to.deep.equal([]);
  });

  it('counts a sample at a high rate, within the error that it states', () => {
    let beyond = 0;
    const runs = 60;
    for (let seed = 1; seed <= runs; seed += 1) {
      const top = create(seed);
      const random = createRandom(1_000 + seed);
      let asked = 0;
      for (let i = 0; i < 20_000; i += 1) {
        const hot = random.next() < 0.1;
        if (hot) asked += 1;
        top.count(check(hot ? 'hot' : `cold ${i}`), true, i / 20);
      }
      // All within 3 s, of which little has decayed.
      const hot = top.top('asked', 'hour', undefined, 3_000).clients.find(({ clientId }) => clientId === 'hot')!;
      expect(hot.error).to.be.below(asked / 2);
      if (Math.abs(hot.count - asked) > hot.error) beyond += 1;
    }
    expect(beyond / runs).to.be.at.most(0.15);
  });

  it('takes few samples a second, whatever the rate', () => {
    const top = create();
    let samples = 0;
    const one = {
      ...check('a'),
      get clientId() {
        samples += 1;
        return 'a';
      },
    };
    for (let i = 0; i < 1_000_000; i += 1) top.count(one, true, i / 100);
    expect(samples).to.be.within(1_000, 10_000);
  });
});

describe('counts of several nodes', () => {
  it('are in the order of their sums', () => {
    const part = (clientId: string, count: number) => ({
      clients: [{ clientId, count, error: 0, source: { node: count, sdk: 0 } }],
      floor: 0,
    });
    const merged = mergeTop([part('a', 5), part('b', 3), part('c', 4), part('b', 3)], 3);
    expect(merged.map(({ clientId }) => clientId)).to.deep.equal(['b', 'a', 'c']);
  });

  it('add up, and what a node may have missed adds to the error', () => {
    const merged = mergeTop(
      [
        {
          clients: [
            { clientId: 'a', count: 10, error: 1, source: { node: 10, sdk: 0 } },
            { clientId: 'b', count: 4, error: 0, source: { node: 4, sdk: 0 } },
          ],
          floor: 2,
        },
        { clients: [{ clientId: 'a', count: 5, error: 2, source: { node: 5, sdk: 0 } }], floor: 3 },
      ],
      10,
    );
    expect(merged).to.deep.equal([
      { clientId: 'a', count: 15, error: 3, source: { node: 15, sdk: 0 } },
      { clientId: 'b', count: 4, error: 3, source: { node: 4, sdk: 0 } },
    ]);
  });

  it('are cut to the limit, largest first, and kept apart by policy', () => {
    const clients = [
      { clientId: 'a', policy: 'free', count: 3, error: 0, source: { node: 3, sdk: 0 } },
      { clientId: 'a', count: 2, error: 0, source: { node: 2, sdk: 0 } },
      { clientId: 'b', count: 1, error: 0, source: { node: 1, sdk: 0 } },
    ];
    expect(mergeTop([{ clients, floor: 0 }], 2)).to.deep.equal(clients.slice(0, 2));
  });
});

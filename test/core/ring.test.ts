import { createHash, randomUUID } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { memberPoints, createRing, growingRing } from '../../src/limits/ring/rings.js';
import { makeRing, pointOf, type NodeId, type Ring } from '../../src/limits/ring/ring.js';
import { inTurns } from '../../src/lib/turns.js';

const POINTS = 2048;
const hosts = (count: number): NodeId[] => Array.from({ length: count }, (_, i) => `10.0.0.${i}:9080`);
const clients = (count: number): string[] => Array.from({ length: count }, (_, i) => `client:${i}`);
const without = (members: readonly NodeId[], gone: NodeId) => members.filter((member) => member !== gone);

/** The points of a ketama ring in clockwise order, worked out apart from the program. */
function ketama(members: readonly NodeId[]): { value: number; member: NodeId }[] {
  const points = members.flatMap((member) =>
    Array.from({ length: POINTS / 4 }, (_, i) => createHash('md5').update(`${member}-${i}`).digest()).flatMap(
      (digest) => [0, 4, 8, 12].map((at) => ({ value: digest.readUInt32LE(at), member })),
    ),
  );
  return points.sort((a, b) => a.value - b.value || (a.member < b.member ? -1 : 1));
}

/** By halving: the first point at or after the key's hash, else the first of all. */
function ketamaOwner(points: readonly { value: number; member: NodeId }[], key: string): NodeId {
  const hash = clientKey(key).hashHigh >>> 0;
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle]!.value < hash) low = middle + 1;
    else high = middle;
  }
  return (points[low] ?? points[0]!).member;
}

function ketamaShares(members: readonly NodeId[]): Map<NodeId, number> {
  const points = ketama(members);
  const shares = new Map(members.map((member) => [member, 0]));
  points.forEach(({ value, member }, i) => {
    const before = points[i - 1]?.value ?? points.at(-1)!.value - 2 ** 32;
    shares.set(member, shares.get(member)! + (value - before) / 2 ** 32);
  });
  return shares;
}

function countByOwner(ring: Ring, keys: readonly string[]): Map<NodeId, number> {
  const counts = new Map(ring.members.map((member) => [member, 0]));
  for (const key of keys) {
    const owner = ring.owner(key)!;
    counts.set(owner, counts.get(owner)! + 1);
  }
  return counts;
}

/** Asserts that between the two rings only keys of `member` change hands; returns how many did. */
function expectOnlyItsKeysMove(larger: Ring, smaller: Ring, member: NodeId, keys: readonly string[]): number {
  let moved = 0;
  for (const key of keys) {
    const owner = larger.owner(key)!;
    if (owner === member) moved += 1;
    else if (smaller.owner(key) !== owner) expect.fail(`${key} moved from ${owner}, though only ${member} left`);
  }
  return moved;
}

/** Asserts that a ring has the points of its members in order, and for each cell the first point at or after it. */
function expectPointsOf({ members, points: { values, owners, places, firstOfCell, cellBits } }: Ring): void {
  const points = ketama(members);
  expect(values.length).to.equal(points.length + 1);
  let cell = 0;
  points.forEach(({ value, member }, i) => {
    if (values[i] !== value || places[owners[i]!] !== member) expect.fail(`point ${i} is not ${value} of ${member}`);
    for (; cell <= value >>> cellBits; cell += 1) if (firstOfCell[cell] !== i) expect.fail(`cell ${cell} is wrong`);
  });
  for (; cell < firstOfCell.length; cell += 1) expect(firstOfCell[cell]).to.equal(points.length);
}

describe('ring', () => {
  describe('who owns what', () => {
    it('gives no client an owner while it is empty', () => {
      const ring = createRing([]);
      expect(ring.owner('alice')).to.equal(undefined);
      expect(ring.successors('alice', 3)).to.deep.equal([]);
      expect(ring.members).to.deep.equal([]);
      expect(ring.shares()).to.deep.equal(new Map());
    });

    it('gives its only member every client, without successors', () => {
      const ring = createRing(['a:1']);
      for (const id of ['alice', '', '__proto__']) {
        expect(ring.owner(id)).to.equal('a:1');
        expect(ring.successors(id, 3)).to.deep.equal([]);
      }
      expect(ring.shares()).to.deep.equal(new Map([['a:1', 1]]));
    });

    it('places clients as ketama does, so that another implementation could', () => {
      const members = hosts(5);
      const points = ketama(members);
      const ring = createRing(members);
      for (const key of clients(700).flatMap((id) => [id, ` ${id}`, id.toUpperCase()])) {
        expect(ring.owner(key)).to.equal(ketamaOwner(points, key));
      }
    });

    it('has the points of ketama for a member never met before, whose points no ring has kept', () => {
      const member = `${randomUUID()}:9080`;
      expect([...memberPoints(member)]).to.deep.equal(ketama([member]).map(({ value }) => value));
      expect(memberPoints(member), 'kept').to.equal(memberPoints(member));
    });

    it('has each client at its fraction of the key space', () => {
      expect(pointOf({ hashHigh: 0 })).to.equal(0);
      expect(pointOf({ hashHigh: 2 ** 30 })).to.equal(0.25);
      expect(pointOf({ hashHigh: -(2 ** 31) })).to.equal(0.5);
      expect(pointOf({ hashHigh: -1 })).to.be.within(0.999, 0.9999999999);
    });

    it('gives ids that are property names of every object an owner, and the same one each time', () => {
      const hostile = [
        '__proto__',
        'constructor',
        'prototype',
        'toString',
        'valueOf',
        'hasOwnProperty',
        'length',
        'get',
      ];
      const odd = ['', ' ', '0', 'null', 'undefined', 'a:1-0', '\0', '\ud800', '🪣', 'x'.repeat(256)];
      const untouched = createRing(hosts(3));
      const ring = createRing(hosts(3));
      for (const id of [...hostile, ...odd, ...hostile]) {
        const owner = ring.owner(id);
        expect(ring.members).to.include(owner);
        expect(createRing(hosts(3)).owner(id)).to.equal(owner);
        expect(ring.successors(id, 2)).to.have.members(without(ring.members, owner!));
      }
      for (const id of clients(1_000)) expect(ring.owner(id)).to.equal(untouched.owner(id));
    });

    it('is the same ring for all who hold it, however the list was learnt', () => {
      const ring = createRing(hosts(20));
      expect(createRing([...hosts(20)].reverse())).to.equal(ring);
      expect(createRing(hosts(20), createRing(hosts(3)))).to.equal(ring);
      expect(createRing(hosts(21))).not.to.equal(ring);
    });

    it('answers alike for a client’s name and for its key', () => {
      const ring = createRing(hosts(10));
      for (const id of clients(500)) {
        const key = clientKey(id);
        expect(ring.owner(key)).to.equal(ring.owner(id));
        expect(ring.successors(key, 3)).to.deep.equal(ring.successors(id, 3));
        expect(ring.replicas(key, 2)).to.equal(ring.replicas(id, 2));
      }
    });

    it('gives each value of the hash an owner: at a point, between two, and beyond the last', () => {
      const ring = createRing(hosts(3));
      const points = ketama(ring.members);
      const ownerOf = (value: number): NodeId | undefined => ring.owner({ hashHigh: value | 0 });
      for (const [i, { value, member }] of points.entries()) {
        if (value === points[i - 1]?.value) continue;
        expect(ownerOf(value)).to.equal(member);
        if (value + 1 < (points[i + 1]?.value ?? 0)) expect(ownerOf(value + 1)).to.equal(points[i + 1]!.member);
      }
      for (const value of [0, 2 ** 32 - 1]) expect(ownerOf(value)).to.equal(points[0]!.member);
    });
  });

  describe('members', () => {
    it('count once however often they are named, and in any order', () => {
      const ring = createRing(['c:3', 'a:1', 'b:2', 'a:1', 'c:3']);
      expect(ring.members).to.deep.equal(['a:1', 'b:2', 'c:3']);
      expect(ring.shares()).to.deep.equal(createRing(new Set(['a:1', 'b:2', 'c:3'])).shares());
    });

    it('with an equal point share it alike, whichever was named first', () => {
      const [one, other] = ['10.0.0.8:9080', '10.0.0.21:9080'] as const;
      const points = ketama([one, other]);
      const ties = points.filter(({ value }, i) => value === points[i + 1]?.value);
      expect(ties, 'points on which these two names meet').to.have.length(1);
      const ring = createRing([one, other]);
      const reversed = createRing([other, one]);
      expect(ring.shares()).to.deep.equal(reversed.shares());
      const keys = clients(30_000);
      expect(keys.map((key) => ring.owner(key))).to.deep.equal(keys.map((key) => reversed.owner(key)));
    });

    it('are told apart by the port alone', () => {
      const members = ['10.0.0.1:9080', '10.0.0.1:9081', '10.0.0.1:9082', '10.0.0.1:90'];
      expectFairAndStable(members);
    });

    it('may have IPv6 addresses', () => {
      const members = ['[::1]:9080', '[::1]:9081', '[fe80::1]:9080', '[2001:db8::1]:9080', '[2001:db8::1:9080]:1'];
      expectFairAndStable(members);
    });

    it('may have any other name, even one that is a property of every object', () => {
      expectFairAndStable(['__proto__', 'constructor', '0', '1', 'tokenring-0.tokenring.svc:9080', 'a-0', 'a', 'A']);
    });

    function expectFairAndStable(members: readonly NodeId[]): void {
      const ring = createRing(members);
      const keys = clients(10_000);
      expect(ring.members).to.deep.equal([...members].sort());
      for (const [member, count] of countByOwner(ring, keys)) {
        expect(count / (keys.length / members.length), member).to.be.within(0.85, 1.15);
        const moved = expectOnlyItsKeysMove(ring, createRing(without(members, member)), member, keys);
        expect(moved, member).to.equal(count);
      }
    }
  });

  describe('change of members', () => {
    for (const size of [2, 7, 14, 49, 100]) {
      it(`moves keys only to the newcomer or from the leaver, at ${size} members`, () => {
        const keys = clients(20_000);
        const members = hosts(size);
        const ring = createRing(members);
        // hosts(n) are the first n of hosts(n + 1).
        const joined = createRing(hosts(size + 1));
        const gained = expectOnlyItsKeysMove(joined, ring, `10.0.0.${size}:9080`, keys);
        const leaver = members[size >> 1]!;
        const lost = expectOnlyItsKeysMove(ring, createRing(without(members, leaver)), leaver, keys);
        expect(gained / (keys.length / (size + 1))).to.be.within(0.8, 1.2);
        expect(lost / (keys.length / size)).to.be.within(0.8, 1.2);
      });
    }

    it('gives the ring of its members, whatever rings came before', () => {
      // Two of these names meet on one point.
      const names = ['10.0.0.8:9080', '10.0.0.21:9080', ...hosts(8), '__proto__', 'x', '10.0.0.0:1'];
      fc.assert(
        fc.property(fc.array(fc.subarray(names), { minLength: 2, maxLength: 6 }), (steps) => {
          let ring = createRing([]);
          for (const members of steps) {
            ring = createRing(members, ring);
            const points = ketama(ring.members);
            expect(ring.shares()).to.deep.equal(ketamaShares(ring.members));
            for (const key of members.length === 0 ? [] : clients(100))
              expect(ring.owner(key)).to.equal(ketamaOwner(points, key));
          }
        }),
        { numRuns: 10 },
      );
      for (const [one, other] of [names.slice(0, 2), names.slice(0, 2).reverse()]) {
        const merged = createRing([one!, other!], createRing([one!]));
        expect(merged.shares()).to.deep.equal(ketamaShares([one!, other!]));
      }
    });

    for (const size of [7, 8, 40]) {
      it(`has the points of its ${size} members in order, whoever came or left before`, () => {
        const names = hosts(size + 5);
        const rings = [createRing(names.slice(0, size))];
        const changes = [
          names.slice(0, size + 1),
          names.slice(1, size + 1),
          names.slice(2, size + 5),
          names.slice(7, size + 5),
        ];
        for (const members of changes) rings.push(createRing(members, rings.at(-1)));
        for (const ring of rings) expectPointsOf(ring);
      });
    }

    it('loses both of two equal points when their member leaves', () => {
      const [twin, one, other] = ['127.69.237.1:9080', '127.69.237.2:9080', '127.69.237.3:9080'] as const;
      const values = ketama([twin]).map(({ value }) => value);
      expect(new Set(values).size, 'of the points of this name, two are equal').to.equal(POINTS - 1);
      const all = makeRing([twin, one, other], undefined, memberPoints);
      expectPointsOf(all);
      const rest = makeRing([one, other], all, memberPoints);
      expectPointsOf(rest);
      for (const key of clients(1_000)) expect(rest.replicas(key, 1)).to.deep.equal(rest.successors(key, 1));
    });

    it('of many members at once is made in slices, and is there when it is wanted', async () => {
      const before = createRing(hosts(5));
      const wanted = [...hosts(5).slice(1), ...Array.from({ length: 22 }, (_, i) => `new-${i}:1`)];
      let turns = 0;
      const soon = (action: () => void): void => {
        turns += 1;
        action();
      };
      await inTurns(growingRing(wanted, before), { soon });
      expect(turns).to.equal(5);
      const ring = createRing(wanted);
      expect(ring.members).to.deep.equal([...wanted].sort());
      expect(ring.shares()).to.deep.equal(ketamaShares(ring.members));
    });

    for (const size of [1, 2, 7, 14, 49]) {
      it(`leaves every one of ${size} members all its points`, () => {
        const ring = createRing(hosts(size));
        const points = ketama(ring.members);
        // Of 10,000 clients 20 are near the four points that a member loses with one vnode of 512.
        const astray = clients(10_000).filter((key) => ring.owner(key) !== ketamaOwner(points, key));
        expect(astray).to.deep.equal([]);
        expect(ring.shares()).to.deep.equal(ketamaShares(ring.members));
      });
    }

    it('makes the first successor the owner when the owner leaves, for 100,000 clients', () => {
      const members = hosts(6);
      const ring = createRing(members);
      const ringWithout = new Map(members.map((gone) => [gone, createRing(without(members, gone))]));
      let wrong = 0;
      for (const key of clients(100_000)) {
        const successor = ring.successors(key, 1)[0];
        if (successor === undefined || ringWithout.get(ring.owner(key)!)!.owner(key) !== successor) wrong += 1;
      }
      expect(wrong).to.equal(0);
    });

    it('makes the next successor the owner each time the owner leaves, down to the last', () => {
      const ring = createRing(hosts(6));
      for (const key of clients(50)) {
        let left = ring;
        for (const next of ring.successors(key, 5)) {
          left = createRing(without(left.members, left.owner(key)!));
          expect(left.owner(key)).to.equal(next);
        }
        expect(left.members).to.have.length(1);
      }
    });
  });

  describe('successors', () => {
    it('are distinct members other than the owner, as many as asked or there are', () => {
      const ring = createRing(hosts(8));
      for (const key of clients(500)) {
        const all = ring.successors(key, 100);
        expect([ring.owner(key), ...all]).to.have.members([...ring.members]);
        for (const count of [0, 1, 2, 5, 7, 8]) expect(ring.successors(key, count)).to.deep.equal(all.slice(0, count));
      }
    });

    it('may be changed by who asked for them without harm', () => {
      const ring = createRing(hosts(3));
      ring.successors('alice', 1).length = 0;
      expect(ring.successors('alice', 1)).to.have.length(1);
      expect(() => ((ring.replicas('alice', 1) as NodeId[]).length = 0)).to.throw(TypeError);
      expect(ring.replicas('alice', 1)).to.have.length(1);
    });

    it('are asked about in turn, each once, until one is accepted', () => {
      const ring = createRing(hosts(8));
      for (const key of clients(200)) {
        const all = ring.successors(key, 7);
        const asked: NodeId[] = [];
        const accepts = (id: NodeId): boolean => asked.push(id) === 4;
        expect(ring.findSuccessor(key, accepts)).to.equal(all[3]);
        expect(asked).to.deep.equal(all.slice(0, 4));
        expect(ring.findSuccessor(key, () => false)).to.equal(undefined);
      }
      for (const members of [[], ['a:1']])
        expect(createRing(members).findSuccessor('alice', () => true)).to.equal(undefined);
    });
  });

  describe('holders of copies', () => {
    const machines = (count: number, workers: number): NodeId[] =>
      Array.from({ length: count * workers }, (_, i) => `10.0.0.${Math.floor(i / workers)}:${9080 + (i % workers)}`);
    const hostOf = (id: NodeId): string => id.slice(0, id.lastIndexOf(':'));

    it('are the successors, and one on another host than the owner where these are all on its own', () => {
      for (const [count, workers, copies] of [
        [2, 1, 1],
        [2, 4, 1],
        [5, 8, 1],
        [3, 4, 2],
        [2, 16, 3],
      ] as const) {
        const ring = createRing(machines(count, workers));
        let further = 0;
        for (const key of clients(2_000)) {
          const owner = ring.owner(key)!;
          const all = ring.successors(key, 100);
          const nearest = all.slice(0, copies);
          const elsewhere = all.find((id) => hostOf(id) !== hostOf(owner))!;
          const expected = nearest.includes(elsewhere) ? nearest : [...nearest, elsewhere];
          if (expected.length > copies) further += 1;
          expect(ring.replicas(key, copies)).to.deep.equal(expected);
          expect(ring.successors(key, copies)).to.deep.equal(nearest);
          expect(ring.successors(key, copies + 1)).to.deep.equal(all.slice(0, copies + 1));
        }
        expect(further > 0, `${count} machines of ${workers}`).to.equal(workers > 1);
      }
    });

    it('have the owner that follows among them, whether the owner goes, or its machine with all that is on it', () => {
      const members = machines(4, 3);
      const ring = createRing(members);
      const rings = new Map<string, Ring>();
      const ringWithout = (gone: (id: NodeId) => boolean): Ring => {
        const left = members.filter((id) => !gone(id));
        const found = rings.get(left.join()) ?? createRing(left);
        rings.set(left.join(), found);
        return found;
      };
      for (const key of clients(5_000)) {
        const owner = ring.owner(key)!;
        const holders = ring.replicas(key, 1);
        expect(holders).to.include(ringWithout((id) => id === owner).owner(key));
        expect(holders).to.include(ringWithout((id) => hostOf(id) === hostOf(owner)).owner(key));
      }
    });

    it('are so in a ring that no other node of the process has asked before', () => {
      for (const [members, copies] of [
        [machines(3, 4), 2],
        [machines(1, 5), 1],
        [machines(4, 1), 3],
      ] as const) {
        const ring = makeRing(members, undefined, memberPoints);
        for (const key of clients(300)) {
          const all = ring.successors(key, 100);
          const elsewhere = all.find((id) => hostOf(id) !== hostOf(ring.owner(key)!));
          const nearest = all.slice(0, copies);
          const expected = elsewhere === undefined || nearest.includes(elsewhere) ? nearest : [...nearest, elsewhere];
          expect(ring.replicas(key, copies)).to.deep.equal(expected);
        }
      }
    });

    it('are the successors alone where all members are on one host, or none shares one', () => {
      for (const members of [machines(1, 5), machines(5, 1), ['a', 'b', 'c'], ['[::1]:1', '[::1]:2', '[::1]:3']]) {
        const ring = createRing(members);
        for (const key of clients(200)) expect(ring.replicas(key, 1)).to.deep.equal(ring.successors(key, 1));
      }
      expect(createRing([]).replicas('alice', 1)).to.deep.equal([]);
      expect(createRing(['a:1']).replicas('alice', 1)).to.deep.equal([]);
      expect(createRing(['a:1', 'b:1']).replicas('alice', 5)).to.have.length(1);
    });
  });

  describe('balance', () => {
    it('loads no member of 100 with more than 1.10 of the mean', () => {
      const counts = countByOwner(createRing(hosts(100)), clients(300_000));
      expect(Math.max(...counts.values()) / 3_000).to.be.at.most(1.1);
      expect(Math.min(...counts.values()) / 3_000).to.be.at.least(0.9);
    });

    it('loads no member of 100 with more than 1.10 of the mean, whatever their names', () => {
      const namings: ((i: number) => NodeId)[] = [
        (i) => `tokenring-${i}.tokenring.default.svc.cluster.local:9080`,
        (i) => `[fd00::${i.toString(16)}]:9080`,
        (i) => `127.0.0.1:${9080 + i}`,
      ];
      for (const naming of namings) {
        const ring = createRing(Array.from({ length: 100 }, (_, i) => naming(i)));
        expect(Math.max(...ring.shares().values()) * 100, ring.members[0]).to.be.at.most(1.1);
      }
    });

    it('is foretold by shares that sum to 1', () => {
      for (const size of [2, 7, 20]) {
        const ring = createRing(hosts(size));
        const keys = clients(50_000);
        const counts = countByOwner(ring, keys);
        let sum = 0;
        for (const [member, share] of ring.shares()) {
          sum += share;
          // Five standard deviations of a count.
          expect(counts.get(member)).to.be.closeTo(share * keys.length, 5 * Math.sqrt(share * keys.length));
        }
        expect(sum).to.equal(1);
        expect([...ring.shares().keys()]).to.deep.equal(ring.members);
      }
    });
  });

  describe('checksum', () => {
    const name = fc.constantFrom(
      'a:1',
      'a:11',
      'b:1',
      '1:1',
      '[::1]:1',
      '[::1]:11',
      'a:1,b:1',
      'a:1\nb:1',
      '"a:1","b:1"',
    );

    it('is equal on two rings exactly when their members are', () => {
      fc.assert(
        fc.property(fc.array(name, { maxLength: 4 }), fc.array(name, { maxLength: 4 }), (some, others) => {
          const [one, two] = [some, others].map((ids) => createRing(ids)) as [Ring, Ring];
          const sameMembers = JSON.stringify(one.members) === JSON.stringify(two.members);
          expect(one.checksum === two.checksum).to.equal(sameMembers);
          expect(createRing(some.reverse()).checksum).to.equal(one.checksum);
        }),
      );
    });

    it('tells a list of names from one name that reads like it', () => {
      const lists = [['a:1', 'b:1'], ['a:1,b:1'], ['a:1 b:1'], ['a:1\nb:1'], ['a:1","b:1'], ['a:1b:1'], []];
      expect(new Set(lists.map((list) => createRing(list).checksum))).to.have.length(lists.length);
    });

    it('is short, and printable anywhere', () => {
      for (const size of [0, 1, 100]) expect(createRing(hosts(size)).checksum).to.match(/^[0-9a-f]{16}$/);
    });
  });
});

import { expect } from 'chai';
import { Topology } from '../../src/client/nodes/topology.js';
import { readCluster, type ClusterView } from '../../src/client/nodes/answers.js';
import { ringChecksum } from '../../src/limits/ring/ring.js';
import { createRing } from '../../src/limits/ring/rings.js';

const SEED = 'http://seed:8080';
const IDS = ['a:1', 'b:1', 'c:1'];
const urlOf = (id: string): string => `http://${id.slice(0, 1)}:8080`;
const ring = createRing(IDS);
const view = (self: string, ids = IDS, url = urlOf): ClusterView => ({
  self,
  ringChecksum: ringChecksum(ids),
  members: ids.map((id) => ({ id, url: url(id) })),
});
const routeOf = (topology: Topology, key: string): string[] => [...topology.addresses(key)];
const keys = Array.from({ length: 30 }, (_, i) => `client ${i}`);

function learnt(nodes = [SEED]): Topology {
  const topology = new Topology(nodes, false);
  for (const id of IDS) topology.learn(urlOf(id), view(id));
  return topology;
}

describe('where a client asks', () => {
  it('is at the nodes that it was given, in turns, as long as it knows no more', () => {
    const topology = new Topology(['http://x:1', 'http://y:1'], false);
    expect(new Set([routeOf(topology, 'k')[0], routeOf(topology, 'k')[0]])).to.have.lengthOf(2);
    expect(topology.ownerOf('k')).to.equal(undefined);
  });

  it('is at the owner, then at those that take over from it, then at those that it was given', () => {
    const topology = learnt();
    for (const key of keys) {
      const order = [ring.owner(key)!, ...ring.successors(key, 2)].map(urlOf);
      expect(routeOf(topology, key)).to.deep.equal([...order, SEED]);
    }
  });

  it('is at no address that has not answered from here, or where somebody else answers', () => {
    const topology = new Topology([SEED], false);
    expect(topology.learn(SEED, view('a:1'))).to.equal(true);
    for (const key of keys) expect(routeOf(topology, key)).to.deep.equal([SEED]);
    expect(topology.unproven()).to.deep.equal(IDS.map(urlOf));
    // From here, b's address leads to a; and c's to a node of another ring.
    expect(topology.learn(urlOf('b:1'), view('a:1'))).to.equal(false);
    expect(topology.learn(urlOf('a:1'), view('a:1'))).to.equal(true);
    for (const key of keys) expect(routeOf(topology, key)).to.deep.equal([urlOf('a:1'), SEED]);
  });

  it('is made in slices where many members are new, with other work in between', async () => {
    const many = Array.from({ length: 300 }, (_, i) => `n${i}:1`);
    const seen = view('n0:1', many);
    const topology = new Topology([SEED], false);
    let turns = 0;
    const timers = {
      soon(action: () => void): void {
        turns += 1;
        action();
      },
    };
    await topology.prepare(seen, timers);
    expect(turns).to.equal(18);
    topology.learn(SEED, seen);
    const whole = createRing(many);
    for (const key of keys) expect(topology.ownerOf(key)).to.equal(whole.owner(key));
    // Two members have gone, and one has come.
    const fewer = view('n0:1', [...many.slice(2), 'new:1']);
    await topology.prepare(fewer, timers);
    expect(turns).to.equal(18);
    topology.learn(SEED, fewer);
    const next = createRing([...many.slice(2), 'new:1']);
    for (const key of keys) expect(topology.ownerOf(key)).to.equal(next.owner(key));
  });

  it('is last where somebody failed, until it answers', () => {
    const topology = learnt();
    topology.fails(urlOf('a:1'));
    for (const key of keys) expect(routeOf(topology, key).at(-1)).to.equal(urlOf('a:1'));
    expect(topology.unproven()).to.deep.equal([urlOf('a:1')]);
    expect(topology.answers(urlOf('a:1'))).to.equal(true);
    for (const key of keys) expect(routeOf(topology, key)[0]).to.equal(urlOf(ring.owner(key)!));
  });

  it('follows the ring, and forgets who is gone from it', () => {
    const topology = learnt();
    topology.fails(urlOf('c:1'));
    expect(topology.learn(urlOf('a:1'), view('a:1', ['a:1', 'b:1']))).to.equal(true);
    expect(topology.learn(urlOf('a:1'), view('a:1', ['a:1', 'b:1']))).to.equal(false);
    for (const key of keys) expect(routeOf(topology, key)).to.have.members([urlOf('a:1'), urlOf('b:1'), SEED]);
    expect(topology.unproven()).to.deep.equal([]);
  });

  it('is anywhere where the ring is made in a way that it does not know', () => {
    const topology = new Topology([SEED], false);
    topology.learn(SEED, { ...view('a:1'), ringChecksum: '0123456789abcdef' });
    topology.answers(urlOf('a:1'));
    for (const key of keys) expect(routeOf(topology, key)).to.deep.equal([SEED]);
  });

  it('is nowhere without TLS where it was given addresses with TLS alone', () => {
    const topology = new Topology(['https://seed'], false);
    for (const id of IDS) topology.learn(urlOf(id), view(id));
    for (const key of keys) expect(routeOf(topology, key)).to.deep.equal(['https://seed']);
    // An address without TLS that the user gave is meant.
    const mixed = learnt(['https://seed', 'http://mine']);
    for (const key of keys) expect(routeOf(mixed, key)).to.have.members(['https://seed', 'http://mine']);
  });

  it('is only at the nodes that it was given where it is pinned to them, the owner first', () => {
    const nodes = [urlOf('a:1'), urlOf('b:1')];
    const pinned = new Topology(nodes, true);
    for (const id of IDS) pinned.learn(urlOf(id), view(id));
    for (const key of keys) {
      const order = [ring.owner(key)!, ...ring.successors(key, 2)].map(urlOf).filter((url) => nodes.includes(url));
      expect(routeOf(pinned, key).slice(0, 2)).to.deep.equal(order);
      expect(routeOf(pinned, key)).not.to.include(urlOf('c:1'));
    }
  });

  it('is at no more members than a ring can have, and at none of an odd name', () => {
    const member = (id: unknown, url: unknown, share = 0.5): object => ({ id, url, share, state: 'active' });
    const read = (...members: object[]): ClusterView | undefined =>
      readCluster({ self: 'a', ringChecksum: 'x', members });
    expect(read(member('a:1', 'http://a:80'), member('b:1', undefined), member('c:1', 'http://c', 0))).to.deep.equal({
      self: 'a',
      ringChecksum: 'x',
      members: [
        { id: 'a:1', url: 'http://a' },
        { id: 'b:1', url: undefined },
      ],
    });
    for (const url of ['ftp://a', 'http://a/path', 'http://u:p@a', 'javascript:alert(1)', 7])
      expect(read(member('a:1', url))?.members[0]?.url, String(url)).to.equal(undefined);
    for (const id of ['', 7, null, 'a'.repeat(301)])
      expect(read(member(id, 'http://a')), String(id)).to.equal(undefined);
    expect(read(...Array.from({ length: 1_025 }, (_, i) => member(`a:${i}`, undefined)))).to.equal(undefined);
    for (const odd of [null, [], 'x', {}, { self: 'a', ringChecksum: 'x', members: {} }])
      expect(readCluster(odd)).to.equal(undefined);
  });
});

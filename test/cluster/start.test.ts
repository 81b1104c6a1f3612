import { expect } from 'chai';
import { TokenringError } from '../../src/lib/error.js';
import { createWorld, newNode, type CreateNode, type World } from '../sim/world.js';

const membersAt = (world: World, id: string): readonly string[] => world.node(id).cluster.membership.ring().members;

describe('a node with peers configured', () => {
  it('waits for the first of them before it begins a ring of its own, and says what it waits for', async () => {
    const world = createWorld(1, { log: true });
    const { cluster } = world.spawn('a:1', { seeds: ['a:1', 'b:1', 'c:1'], bootstrapMs: 2_000 });
    const starting = cluster.start();
    await world.run(1_900);
    expect(cluster.membership.self().state).to.equal('joining');
    expect(cluster.waitingFor()).to.equal(
      'this node has met none of its peers: b:1: nothing listens there; c:1: nothing listens there',
    );
    expect(world.log.filter((line) => line.includes('no peer answers'))).to.have.lengthOf(1);
    await world.until(starting, 300);
    expect(cluster.waitingFor()).to.equal(undefined);
    expect(membersAt(world, 'a:1')).to.deep.equal(['a:1']);
    expect(world.log.filter((line) => line.includes('no peer answered in time'))).to.have.lengthOf(1);
  });

  it('begins a ring as soon as it meets another one that starts', async () => {
    const world = createWorld(2);
    const seeds = ['a:1', 'b:1', 'c:1'];
    const first = world.spawn('a:1', { seeds, bootstrapMs: 60_000 }).cluster.start();
    await world.run(500);
    const startedMs = world.nowMs;
    await world.until(Promise.all([first, world.spawn('b:1', { seeds, bootstrapMs: 60_000 }).cluster.start()]), 1_000);
    expect(world.nowMs - startedMs).to.be.below(400);
    expect(membersAt(world, 'a:1')).to.deep.equal(seeds.slice(0, 2));
  });

  it('begins a ring at once if it is the only one of them', async () => {
    const world = createWorld(3);
    await world.until(world.spawn('a:1', { seeds: ['a:1'], bootstrapMs: 60_000 }).cluster.start(), 20);
  });

  it('waits for a discovery that finds no addresses', async () => {
    const world = createWorld(4);
    const seeds: string[] = [];
    const { cluster } = world.spawn('b:1', { seeds: () => seeds, bootstrapMs: 60_000 });
    const starting = cluster.start();
    await world.run(1_000);
    expect(cluster.waitingFor()).to.equal('this node has met none of its peers: discovery finds none');
    await world.until(world.spawn('a:1', { seeds: ['a:1'] }).cluster.start(), 100);
    seeds.push('a:1');
    await world.until(starting, 1_000);
    expect(membersAt(world, 'b:1')).to.deep.equal(['a:1', 'b:1']);
  });

  it('does not wait again when it rejoins', async () => {
    const world = createWorld(5);
    const { cluster } = world.spawn('a:1', { seeds: ['a:1', 'b:1'], bootstrapMs: 1_000 });
    await world.until(cluster.start(), 1_200);
    cluster.membership.reincarnate();
    await world.run(200);
    expect(cluster.membership.self().state).to.equal('active');
  });
});

describe('a node whose id another process has', () => {
  /** The process `x:1` has the id `a:1`, as if its address were advertised wrongly. */
  const createNode: CreateNode = (deps, options) =>
    newNode(deps, { ...options, checksId: true, self: options.self === 'x:1' ? 'a:1' : options.self });

  for (const [name, etcd] of [
    ['by gossip', {}],
    ['with a registry', { etcdRate: 1 }],
  ] as const) {
    it(`does not start, and the earlier one stays in its ring, ${name}`, async () => {
      const world = createWorld(1, { log: true, createNode, ...etcd });
      const ids = ['a:1', 'b:1', 'c:1'];
      for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
      await world.run(300);
      const { incarnation } = world.node('a:1').cluster.membership.self();
      const error = await world.until(
        world
          .spawn('x:1', { seeds: ids })
          .cluster.start()
          .then(
            () => undefined,
            (reason: unknown) => reason,
          ),
        1_000,
      );
      expect(error).to.be.instanceOf(TokenringError).with.property('code', 'duplicate_id');
      expect((error as Error).message)
        .to.include('a:1')
        .and.include('TOKENRING_ADVERTISE');
      world.node('x:1').cluster.close();
      await world.run(2_000);
      for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(ids);
      expect(world.node('a:1').cluster.membership.self().incarnation).to.equal(incarnation);
      expect(world.log.filter((line) => /^\S+ a:1: another node uses the id/.test(line))).to.have.lengthOf(1);
      expect(world.log.filter((line) => /^\S+ x:1: another node has the id/.test(line))).to.have.lengthOf(1);
    });
  }

  it('does not start where the address of both leads to it, and the earlier one stays in its ring', async () => {
    const world = createWorld(1, { log: true });
    const ids = ['a:1', 'b:1', 'c:1'];
    for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
    await world.run(300);
    const earlier = world.node('a:1').cluster;
    // From now on, messages to `a:1` arrive here.
    const later = world.spawn('a:1', { seeds: ids, checksId: true }).cluster;
    const error: unknown = await world.until(
      later.start().then(
        () => undefined,
        (reason: unknown) => reason,
      ),
      2_000,
    );
    expect(error).to.be.instanceOf(TokenringError).with.property('code', 'duplicate_id');
    expect((error as Error).message).to.include('another node of this id is in the ring');
    expect(earlier.membership.self()).to.include({ state: 'active', incarnation: 1 });
    for (const id of ['b:1', 'c:1']) expect(membersAt(world, id), id).to.deep.equal(ids);
    later.close();
    // Its address leads to the later process. So it hears of that process from its neighbours, once.
    await world.run(1_000);
    expect(earlier.membership.self()).to.include({ state: 'active', incarnation: 1 });
    expect(world.log.filter((line) => line.includes('another node has the id of this one'))).to.have.lengthOf(1);
    expect(world.log.filter((line) => line.includes('another node uses the id of this one'))).to.have.lengthOf(1);
  });

  it('starts under the id of a process that was just killed, which beats no more', async () => {
    const world = createWorld(1);
    const ids = ['a:1', 'b:1', 'c:1'];
    for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
    await world.run(300);
    world.kill('a:1');
    await world.run(5);
    await world.until(world.spawn('a:1', { seeds: ids, checksId: true }).cluster.start(), 10_000);
    await world.run(1_000);
    for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(ids);
  });

  it('starts at once where all start together', async () => {
    const world = createWorld(1);
    const ids = ['a:1', 'b:1', 'c:1'];
    const starts = ids.map((id) => world.spawn(id, { seeds: ids, checksId: true }).cluster.start());
    await world.until(Promise.all(starts), 1_000);
    for (const id of ids) expect(membersAt(world, id), id).to.deep.equal(ids);
  });

  it('starts where its own address cannot be reached', async () => {
    const world = createWorld(2, { createNode });
    world.setLink((from, to) => (from === to ? undefined : 1));
    await world.until(world.spawn('a:1', { seeds: ['a:1'] }).cluster.start(), 2_000);
  });
});

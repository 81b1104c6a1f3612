import { expect } from 'chai';
import type { Written } from '../../src/protocol/messages.js';
import type { ActivePolicies } from '../../src/policy/active-policies.js';
import { change, documentOf, NO_DOCUMENT, type PolicyDocument } from '../../src/policy/policy-document.js';
import { policyKey, type EntryValue } from '../../src/policy/policy-entry.js';
import { ETCD } from '../sim/cuts.js';
import { createWorld, type World } from '../sim/world.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'];
const TTL_MS = 2_000;
/** Longer than any write is retried. */
const ENDED_MS = 7_000;

const perHour = (limit: number): EntryValue => ({ limit, window: '1h' });
const policiesAt = (world: World, id: string): ActivePolicies => world.node(id).cluster.activePolicies;

function spawn(world: World, id: string, document?: PolicyDocument, registry?: string): Promise<void> {
  const { cluster } = world.spawn(id, { memberTtlMs: TTL_MS });
  if (document !== undefined) cluster.activePolicies.adopt(document, registry);
  return cluster.start();
}

async function startCluster(world: World, count: number): Promise<string[]> {
  const ids = IDS.slice(0, count);
  await world.until(Promise.all(ids.map((id) => spawn(world, id))), 10_000);
  await world.run(300);
  return ids;
}

function put(world: World, at: string, name: string, limit: number | null, ifMatch?: string[]): Promise<Written> {
  const value = limit === null ? null : perHour(limit);
  return world.node(at).cluster.policies.write(new Map([[policyKey(name), value]]), ifMatch);
}

function limitAt(world: World, at: string, name: string): number | undefined {
  return policiesAt(world, at).resolve('x', name)?.rules[0]?.limit;
}

const limits = (world: World, ids: readonly string[], name: string): (number | undefined)[] =>
  ids.map((id) => limitAt(world, id, name));
const digests = (world: World, ids: readonly string[]): Set<string> =>
  new Set(ids.map((id) => policiesAt(world, id).document().digest));

/** The document in etcd, which must be valid. */
function stored(world: World): PolicyDocument {
  const now = world.etcd!.stored;
  if (now.kind !== 'document') throw new Error(now.reason);
  return now.document;
}

/** A document with these policies, written one after the other. */
const documentWith = (writer: string, ...policies: [name: string, limit: number | null][]): PolicyDocument =>
  policies.reduce(
    (document, [name, limit]) =>
      change(document, new Map([[policyKey(name), limit === null ? null : perHour(limit)]]), writer),
    NO_DOCUMENT,
  );

/** Cuts all links between `from` and `to`. */
function cut(world: World, from: readonly string[], to: readonly string[]): void {
  const isCut = (a: string, b: string): boolean => from.includes(a) && to.includes(b);
  world.setLink((a, b) => (isCut(a, b) || isCut(b, a) ? undefined : 1));
}

describe('policies in etcd', () => {
  it('are in force on all nodes when the writer is answered, whichever node was asked', async () => {
    const world = createWorld(1, { etcdRate: 1, log: true });
    const ids = await startCluster(world, 4);
    for (const [i, at] of ids.entries()) {
      expect(await world.until(put(world, at, 'api', 10 + i), 1_000)).to.include({ kind: 'written', version: i + 1 });
      expect(limits(world, ids, 'api')).to.deep.equal(ids.map(() => 10 + i));
    }
    await world.until(put(world, 'b:1', 'api', null), 1_000);
    expect(limits(world, ids, 'api')).to.deep.equal(ids.map(() => undefined));
    expect(digests(world, ids).size).to.equal(1);
    expect(stored(world).digest).to.equal(policiesAt(world, 'a:1').document().digest);
    // A change of policies does not change the ring.
    const epochs = ids.map((id) => world.node(id).cluster.stats().registry!.revision);
    expect(new Set(epochs).size).to.equal(1);
    expect(epochs[0]).to.be.below(world.etcd!.revision);
  });

  it('accept one of several concurrent changes of the same version at all nodes, and refuse the others', async () => {
    const world = createWorld(2, { etcdRate: 1 });
    world.setLink((_from, _to, random) => random.between(1, 40));
    const ids = await startCluster(world, 4);
    for (let round = 0; round < 20; round += 1) {
      const { version, digest } = stored(world);
      const tags = [[String(version)], [`${version}-${digest}`], ['x', String(version)], [String(version)]];
      const writes = [...ids, ...ids].map((at, i) => put(world, at, 'api', 10 * round + i, tags[i % 4]));
      const outcomes = await world.until(Promise.all(writes), 9_000);
      const won = outcomes.flatMap(({ kind }, i) => (kind === 'written' ? [i] : []));
      expect(won, `round ${round}`).to.have.lengthOf(1);
      for (const [i, outcome] of outcomes.entries())
        if (i !== won[0]) expect(outcome).to.include({ kind: 'conflict', version: version + 1 });
      await world.run(50);
      expect(limits(world, ids, 'api')).to.deep.equal(ids.map(() => 10 * round + won[0]!));
    }
  });

  it('accept all of several concurrent changes without a version, one after the other', async () => {
    const world = createWorld(3, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    const writes = Array.from({ length: 30 }, (_, i) => put(world, ids[i % 3]!, `p${i}`, i));
    const outcomes = await world.until(Promise.all(writes), ENDED_MS);
    const versions = outcomes.map((outcome) => (outcome.kind === 'written' ? outcome.version : 0));
    expect(versions.sort((a, b) => a - b)).to.deep.equal(versions.map((_, i) => i + 1));
    for (let i = 0; i < 30; i += 1) expect(limitAt(world, 'a:1', `p${i}`)).to.equal(i);
  });

  it('match `If-Match` exactly at a node that does not know the version of the caller yet', async () => {
    const world = createWorld(4, { etcdRate: 1 });
    await startCluster(world, 3);
    // Messages to b take long.
    let toldLate = true;
    world.setLink((_from, to) => (toldLate && to === 'b:1' ? 200 : 1));
    await world.run(300);
    async function unheard(name: string, limit: number): Promise<void> {
      const { version } = policiesAt(world, 'b:1').document();
      void put(world, 'a:1', name, limit);
      await world.run(10);
      expect(stored(world).version).to.equal(version + 1);
      expect(policiesAt(world, 'b:1').document().version).to.equal(version);
    }
    await unheard('api', 1);
    expect(await world.until(put(world, 'b:1', 'api', 2, ['0']), 2_000)).to.include({ kind: 'conflict', version: 1 });
    await unheard('api', 3);
    const second = world.until(put(world, 'b:1', 'api', 4, ['2']), 2_000);
    expect(await second).to.include({ kind: 'written', version: 3 });
    await unheard('new', 5);
    const star = world.until(put(world, 'b:1', 'new', 6, ['*']), 2_000);
    expect(await star).to.include({ kind: 'written', version: 5 });
    toldLate = false;
    await world.run(300);
    expect([limitAt(world, 'b:1', 'api'), limitAt(world, 'b:1', 'new')]).to.deep.equal([4, 6]);
  });

  it('are not replaced at their writer by an older read that arrives later', async () => {
    const world = createWorld(21, { etcdRate: 1 });
    await startCluster(world, 3);
    let isSlow = false;
    world.setLink((from, to) => {
      if (!isSlow || from !== ETCD || to !== 'a:1') return 1;
      isSlow = false;
      return 60;
    });
    const revisions: number[] = [];
    const run = async (ms: number): Promise<void> => {
      for (let i = 0; i < ms; i += 1) {
        await world.run(1);
        revisions.push(world.node('a:1').cluster.stats().registry!.policiesRevision);
      }
    };
    world.etcd!.breakWatches();
    await run(20);
    // One more member, so that the read has changes.
    void spawn(world, 'd:1');
    await run(80);
    isSlow = true;
    await run(10);
    expect(isSlow).to.equal(false);
    const writing = put(world, 'a:1', 'api', 1);
    await run(230);
    await world.until(writing, 1);
    expect(revisions).to.deep.equal([...revisions].sort((x, y) => x - y));
    expect(revisions.at(-1)).to.be.above(revisions[0]!);
  });

  it('are in force on a joining node before it decides', async () => {
    const world = createWorld(5, { etcdRate: 1 });
    await startCluster(world, 3);
    await world.until(put(world, 'a:1', 'api', 10), 1_000);
    let whenReady: number | undefined;
    await world.until(
      spawn(world, 'd:1').then(() => (whenReady = limitAt(world, 'd:1', 'api'))),
      10_000,
    );
    expect(whenReady).to.equal(10);
  });

  it('are in force again after all nodes were killed, without state files', async () => {
    const world = createWorld(6, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', 'api', 10), 1_000);
    for (const id of ids) world.kill(id);
    await world.run(2 * TTL_MS);
    await startCluster(world, 3);
    expect(limits(world, ids, 'api')).to.deep.equal([10, 10, 10]);
    expect(await world.until(put(world, 'c:1', 'api', 11, ['1']), 1_000)).to.include({ kind: 'written', version: 2 });
  });

  it('stay in force while etcd is away; a refused write says whether it may have been made', async () => {
    const world = createWorld(7, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', 'api', 10), 1_000);
    cut(world, ids, [ETCD]);
    const startedMs = world.nowMs;
    const outcome = await world.until(put(world, 'b:1', 'api', 11), 9_000);
    expect(outcome).to.deep.equal({ kind: 'no-registry', reason: 'no answer', undone: false });
    expect(world.nowMs - startedMs).to.be.within(4_000, 6_500);
    expect(limits(world, ids, 'api')).to.deep.equal([10, 10, 10]);
    const many = await world.until(
      Promise.all(Array.from({ length: 20 }, (_, i) => put(world, 'b:1', 'api', i))),
      9_000,
    );
    expect(many.every(({ kind }) => kind === 'no-registry')).to.equal(true);
    expect(many.at(-1)).to.include({ undone: true });
    world.setLink(() => 1);
    await world.run(1_000);
    expect(limits(world, ids, 'api')).to.deep.equal([10, 10, 10]);
    expect(await world.until(put(world, 'b:1', 'api', 12, ['1']), 1_000)).to.include({ kind: 'written', version: 2 });
  });

  it('are written once, and reported as written, although the answer of etcd is lost', async () => {
    for (const others of [false, true]) {
      const world = createWorld(8, { etcdRate: 1 });
      await startCluster(world, 3);
      let deaf = true;
      world.setLink((from, to) => (deaf && from === ETCD && to === 'a:1' ? undefined : 1));
      const writing = put(world, 'a:1', 'api', 10, ['0']);
      await world.run(300);
      expect(stored(world).version).to.equal(1);
      if (others) await world.until(put(world, 'b:1', 'other', 1), 1_000);
      deaf = false;
      expect(await world.until(writing, ENDED_MS)).to.include({ kind: 'written', version: 1 });
      expect(stored(world).version).to.equal(others ? 2 : 1);
    }
  });

  it('are reported as uncertain if another write has replaced them before the answer', async () => {
    const world = createWorld(9, { etcdRate: 1 });
    await startCluster(world, 3);
    let deaf = true;
    world.setLink((from, to) => (deaf && from === ETCD && to === 'a:1' ? undefined : 1));
    const writing = put(world, 'a:1', 'api', 10, ['0']);
    await world.run(300);
    await world.until(put(world, 'b:1', 'api', 11), 1_000);
    deaf = false;
    expect(await world.until(writing, ENDED_MS)).to.include({ kind: 'no-registry', undone: false });
    expect(stored(world).version).to.equal(2);
  });

  it('are not changed by an uncertain write that was overtaken', async () => {
    const world = createWorld(10, { etcdRate: 1 });
    await startCluster(world, 3);
    let mute = true;
    world.setLink((from, to) => (mute && from === 'a:1' && to === ETCD ? undefined : 1));
    const writing = put(world, 'a:1', 'api', 10, ['0']);
    await world.run(300);
    await world.until(put(world, 'b:1', 'api', 11), 1_000);
    mute = false;
    expect(await world.until(writing, ENDED_MS)).to.include({ kind: 'conflict', version: 1 });
    expect(limitAt(world, 'c:1', 'api')).to.equal(11);
  });

  it('reach a node whose watch has ended, was compacted, or is silently dead', async () => {
    const world = createWorld(11, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    world.etcd!.breakWatches();
    await world.until(put(world, 'a:1', 'api', 1), 1_000);
    await world.run(300);
    expect(limits(world, ids, 'api')).to.deep.equal([1, 1, 1]);
    let dead = true;
    world.setLink((_from, to) => (dead && to === 'b:1' ? undefined : 1));
    await world.until(put(world, 'a:1', 'api', 2), 2_000);
    world.etcd!.compact();
    expect(limitAt(world, 'b:1', 'api')).to.equal(1);
    dead = false;
    await world.run(TTL_MS);
    expect(limits(world, ids, 'api')).to.deep.equal([2, 2, 2]);
  });

  it('reach a node that is cut off from etcd through its peers; it can change nothing', async () => {
    const world = createWorld(12, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    cut(world, ['a:1'], [ETCD]);
    await world.run(TTL_MS);
    await world.until(put(world, 'b:1', 'api', 10), 1_000);
    await world.run(1_000);
    expect(limits(world, ids, 'api')).to.deep.equal([10, 10, 10]);
    expect(await world.until(put(world, 'a:1', 'api', 11), 9_000)).to.include({ kind: 'no-registry' });
    world.setLink(() => 1);
    await world.run(TTL_MS);
    expect(limits(world, ids, 'api')).to.deep.equal([10, 10, 10]);
    expect(stored(world).version).to.equal(1);
  });

  it('can be changed only on the side of a partition that has etcd', async () => {
    const world = createWorld(13, { etcdRate: 1 });
    const ids = await startCluster(world, 5);
    await world.until(put(world, 'a:1', 'api', 1), 1_000);
    cut(world, ['a:1', 'b:1', 'c:1'], ['d:1', 'e:1', ETCD]);
    await world.run(300);
    const [refused, made] = await world.until(
      Promise.all([put(world, 'a:1', 'api', 2, ['1']), put(world, 'd:1', 'api', 3, ['1'])]),
      9_000,
    );
    expect(refused).to.include({ kind: 'no-registry' });
    expect(made).to.include({ kind: 'written', version: 2 });
    expect(limits(world, ids, 'api')).to.deep.equal([1, 1, 1, 3, 3]);
    world.setLink(() => 1);
    await world.run(2 * TTL_MS);
    expect(limits(world, ids, 'api')).to.deep.equal([3, 3, 3, 3, 3]);
    expect(stored(world).version).to.equal(2);
  });

  it('are refused as a whole if they are not valid; the old ones stay, and changes are refused, until they are corrected', async () => {
    const world = createWorld(14, { etcdRate: 1, log: true });
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', 'api', 10), 1_000);
    world.etcd!.put('/policies: not JSON');
    await world.run(300);
    expect(limits(world, ids, 'api')).to.deep.equal([10, 10, 10]);
    const lines = world.log.filter((line) => line.includes('the policies in the registry are not valid'));
    expect(lines).to.have.lengthOf(3);
    expect(lines[0]).to.include('/policies: not JSON');
    for (const id of ids) expect(world.node(id).cluster.stats().registry!.arePoliciesValid).to.equal(false);
    const outcome = await world.until(put(world, 'a:1', 'api', 11), 9_000);
    expect(outcome).to.deep.equal({
      kind: 'no-registry',
      reason: 'what it has is not valid: /policies: not JSON',
      undone: true,
    });
    // A joining node gets the policies of the others.
    await world.until(spawn(world, 'd:1'), 10_000);
    expect(limitAt(world, 'd:1', 'api')).to.equal(10);
    // After its removal, the nodes write their document again.
    world.etcd!.put(undefined);
    await world.run(500);
    expect(stored(world).version).to.equal(1);
    expect(await world.until(put(world, 'd:1', 'api', 12, ['1']), 1_000)).to.include({ kind: 'written', version: 2 });
    expect(limits(world, [...ids, 'd:1'], 'api')).to.deep.equal([12, 12, 12, 12]);
  });

  it('are in force if another program has written them and they are valid', async () => {
    const world = createWorld(15, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', 'api', 10), 1_000);
    world.etcd!.put(change(stored(world), new Map([[policyKey('api'), perHour(7)]]), 'somebody'));
    await world.run(300);
    expect(limits(world, ids, 'api')).to.deep.equal([7, 7, 7]);
  });

  it('from before there was an etcd are merged in once, and overwrite nothing later', async () => {
    const world = createWorld(16, { etcdRate: 1 });
    const older = documentWith('a:1', ['api', 1], ['gone', 2]);
    const newer = change(
      change(older, new Map([[policyKey('gone'), null]]), 'b:1'),
      new Map([[policyKey('more'), perHour(3)]]),
      'b:1',
    );
    await world.until(spawn(world, 'a:1', older), 10_000);
    expect(stored(world).digest).to.equal(older.digest);
    await world.until(spawn(world, 'b:1', newer), 10_000);
    await world.run(100);
    expect(stored(world).digest).to.equal(newer.digest);
    await world.until(put(world, 'a:1', 'api', 9), 1_000);
    // One node with an old document, and one with none.
    await world.until(spawn(world, 'c:1', older), 10_000);
    await world.until(spawn(world, 'd:1'), 10_000);
    await world.run(300);
    const ids = IDS.slice(0, 4);
    expect(limits(world, ids, 'api')).to.deep.equal([9, 9, 9, 9]);
    expect(limits(world, ids, 'gone')).to.deep.equal(ids.map(() => undefined));
    expect(limits(world, ids, 'more')).to.deep.equal([3, 3, 3, 3]);
    expect(stored(world).version).to.equal(5);
    expect(digests(world, ids)).to.deep.equal(new Set([stored(world).digest]));
  });

  it('of a node are named in its log if those of etcd overwrite them', async () => {
    const world = createWorld(16, { etcdRate: 1, log: true });
    const warnings = (): string[] =>
      world.log.filter((line) => line.includes('have overwritten policies of this node'));
    await startCluster(world, 2);
    for (const limit of [1, 2]) await world.until(put(world, 'a:1', 'api', limit), 1_000);
    expect(warnings()).to.deep.equal([]);
    await world.until(spawn(world, 'c:1', documentWith('c:1', ['api', 5])), 10_000);
    await world.run(300);
    expect(limits(world, ['a:1', 'b:1', 'c:1'], 'api')).to.deep.equal([2, 2, 2]);
    expect(warnings()).to.have.lengthOf(1);
    expect(warnings()[0]).to.include('policy api');
  });

  it('from this etcd in the state of a node are not merged in again', async () => {
    const world = createWorld(17, { etcdRate: 1 });
    const ids = await startCluster(world, 2);
    await world.until(put(world, 'a:1', 'api', 1), 1_000);
    const document = policiesAt(world, 'a:1').document();
    const registry = policiesAt(world, 'a:1').registry();
    // Etcd has the version of this entry, but never had the entry: only a merge would add it.
    const kept = documentOf(1, new Map([...document.entries, ...documentWith('z:1', ['stray', 5]).entries]));
    await world.until(put(world, 'b:1', 'api', 2), 1_000);
    await world.until(spawn(world, 'c:1', kept, registry), 10_000);
    await world.run(300);
    expect(limits(world, [...ids, 'c:1'], 'stray')).to.deep.equal([undefined, undefined, undefined]);
    expect(limits(world, [...ids, 'c:1'], 'api')).to.deep.equal([2, 2, 2]);
  });

  it('are written again by the nodes if etcd loses all data, and the versions go on', async () => {
    const world = createWorld(18, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    for (const limit of [1, 2, 3]) await world.until(put(world, 'a:1', 'api', limit), 1_000);
    const { digest } = stored(world);
    world.etcd!.wipe();
    await world.run(3 * TTL_MS);
    expect(stored(world).digest).to.equal(digest);
    expect(limits(world, ids, 'api')).to.deep.equal([3, 3, 3]);
    expect(await world.until(put(world, 'b:1', 'api', 4, [`3-${digest}`]), 1_000)).to.include({
      kind: 'written',
      version: 4,
    });
    await world.run(100);
    expect(digests(world, ids).size).to.equal(1);
  });

  it('from an older backup of etcd are replaced by those in force, and no version is used twice', async () => {
    const world = createWorld(19, { etcdRate: 1 });
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', 'api', 1), 1_000);
    const backup = stored(world);
    for (const limit of [2, 3]) await world.until(put(world, 'a:1', 'api', limit), 1_000);
    world.etcd!.put(backup);
    await world.run(500);
    expect(stored(world).version).to.equal(3);
    expect(limits(world, ids, 'api')).to.deep.equal([3, 3, 3]);
    expect(await world.until(put(world, 'b:1', 'api', 4), 1_000)).to.include({ kind: 'written', version: 4 });
  });

  it('keep a node that starts while etcd is away from deciding until etcd is back', async () => {
    const world = createWorld(20, { etcdRate: 1 });
    await startCluster(world, 2);
    await world.until(put(world, 'a:1', 'api', 10), 1_000);
    cut(world, ['c:1'], [ETCD]);
    let ready = false;
    const starting = spawn(world, 'c:1', documentWith('c:1', ['old', 1])).then(() => (ready = true));
    await world.run(3_000);
    expect(ready).to.equal(false);
    world.setLink(() => 1);
    await world.until(starting, 10_000);
    expect([limitAt(world, 'c:1', 'api'), limitAt(world, 'c:1', 'old')]).to.deep.equal([10, 1]);
  });

  for (const losesData of [false, true]) {
    const what = losesData ? 'though all data of etcd is lost' : 'one version after the other';
    it(`keep every promise to writers while links, watches, and nodes fail: ${what}`, async function () {
      this.timeout(60_000);
      for (let seed = 1; seed <= 40; seed += 1) await writeAtRandom(seed, losesData);
    });
  }
});

interface Asked {
  readonly key: string;
  /** Identifies this write. */
  readonly limit: number;
  readonly ifMatch: number | undefined;
  outcome: Written | undefined;
}

/** Writes for a few seconds with random faults, then checks the invariants after a calm period. */
async function writeAtRandom(seed: number, losesData: boolean): Promise<void> {
  const world = createWorld(seed, { etcdRate: 1 });
  const { random } = world;
  const ids = await startCluster(world, 3);
  const asked: Asked[] = [];
  const isCut = new Set<string>();
  world.setLink((from, to) =>
    isCut.has(`${from} ${to}`) ? undefined : random.chance(0.02) ? undefined : random.between(1, 20),
  );
  const faults: (() => void)[] = [
    () => world.etcd!.breakWatches(),
    () => world.etcd!.compact(),
    () => {
      const [from, to] = [random.pick([...ids, ETCD]), random.pick([...ids, ETCD])];
      isCut.add(`${from} ${to}`);
      world.after(random.between(50, 3_000), () => isCut.delete(`${from} ${to}`));
    },
    () => {
      const id = random.pick(ids);
      if (world.node(id).state !== 'running') return;
      world.kill(id);
      world.after(random.between(0, 1_000), () => void spawn(world, id));
    },
    () => (losesData ? world.etcd!.wipe() : undefined),
  ];
  for (let i = 0; i < 60; i += 1) {
    if (random.chance(0.25)) random.pick(faults)();
    const at = random.pick(ids);
    const { state } = world.node(at);
    if (state === 'running') {
      const { version } = stored(world);
      const one: Asked = {
        key: random.pick(['p', 'q', 'r']),
        limit: 100 + i,
        ifMatch: random.chance(0.5) ? version : undefined,
        outcome: undefined,
      };
      asked.push(one);
      const tags = one.ifMatch === undefined ? undefined : [String(one.ifMatch)];
      void put(world, at, one.key, one.limit, tags).then((outcome) => (one.outcome = outcome));
    }
    await world.run(random.between(1, 150));
  }
  isCut.clear();
  world.setLink(() => 1);
  await world.run(ENDED_MS + 2 * TTL_MS);
  const about = `seed ${seed}`;
  const documents = world.etcd!.allStored.flatMap((one) => (one.kind === 'document' ? [one.document] : []));
  const madeAt = (one: Asked): number[] =>
    documents.flatMap(({ version, entries }) => {
      const entry = entries.get(policyKey(one.key));
      return JSON.stringify(entry?.value) === JSON.stringify(perHour(one.limit)) && entry?.version === version
        ? [version]
        : [];
    });
  for (const one of asked) {
    const { outcome } = one;
    const versions = [...new Set(madeAt(one))];
    expect(versions.length, `${about}: ${JSON.stringify(one)} was made once at most`).to.be.at.most(1);
    if (outcome?.kind === 'written')
      expect(versions, `${about}: ${JSON.stringify(one)}`).to.deep.equal([outcome.version]);
    if (outcome?.kind === 'written' && one.ifMatch !== undefined) expect(outcome.version).to.equal(one.ifMatch + 1);
    if (outcome?.kind === 'conflict' || (outcome?.kind === 'no-registry' && outcome.undone))
      expect(versions, `${about}: ${JSON.stringify(one)}`).to.deep.equal([]);
  }
  const made = asked.flatMap(({ outcome }) => (outcome?.kind === 'written' ? [outcome.version] : []));
  if (!losesData) {
    expect(made.length, `${about}: one write a version`).to.equal(new Set(made).size);
    const steps = documents.map(({ version }) => version);
    expect(steps, about).to.deep.equal(steps.map((_, i) => i + 1));
  }
  expect(made.length, about).to.be.above(5);
  for (const id of ids)
    expect(policiesAt(world, id).document().digest, `${about}: ${id}`).to.equal(stored(world).digest);
}

import { expect } from 'chai';
import { CheckBatch, decideAlone } from '../../src/limits/decide/check-batch.js';
import { Fallback } from '../../src/node/decide/fallback.js';
import type { Envelope, PeerAnswer, Written, Ask } from '../../src/protocol/messages.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check, type FallbackMode } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { change, NO_DOCUMENT, overrideKey, type PolicyDocument } from '../../src/policy/policy-document.js';
import { policyKey, type EntryValue } from '../../src/policy/policy-entry.js';
import { policyOf } from '../../src/policy/policy.js';
import type { Membership } from '../../src/membership/membership.js';
import { ActivePolicies } from '../../src/policy/active-policies.js';
import type { Steps } from '../../src/lib/turns.js';
import { PolicyAntiEntropy } from '../../src/node/policies/anti-entropy.js';
import { DocumentChanges } from '../../src/node/policies/document-changes.js';
import { EntryParts } from '../../src/node/policies/entry-parts.js';
import { systemTimers } from '../../src/lib/system.js';
import { DEFAULT_STATE_BOUNDS } from '../../src/node/wiring.js';
import { createWorld, type World } from '../sim/world.js';
import { encodeAnswer, encodeMessage } from '../support/wire.js';
import type { Tamper } from '../sim/network.js';
import { checkOf } from './traffic.js';
import { TopClients } from '../../src/limits/top-clients.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1'];
const perHour = (limit: number): EntryValue => ({ limit, window: '1h' });

async function startCluster(world: World, count: number): Promise<string[]> {
  const ids = IDS.slice(0, count);
  for (const id of ids) await world.until(world.spawn(id, { seeds: ids }).cluster.start(), 10_000);
  await world.run(500);
  return ids;
}

function put(world: World, at: string, key: string, value: EntryValue | null, ifMatch?: string[]): Promise<Written> {
  return world.node(at).cluster.policies.write(new Map([[key, value]]), ifMatch);
}

function limitAt(world: World, at: string, name: string, clientId = 'x'): number | undefined {
  return world.node(at).cluster.activePolicies.resolve(clientId, name)?.rules[0]?.limit;
}

const digests = (world: World, ids: readonly string[]): Set<string> =>
  new Set(ids.map((id) => world.node(id).cluster.activePolicies.document().digest));

/** Asks a node under a policy. */
function ask(world: World, at: string, clientId: string, name: string, more: Partial<Check> = {}): Promise<Decision> {
  const { cluster } = world.node(at);
  const { rules } = cluster.activePolicies.resolve(clientId, name)!;
  const check = checkOf(clientId, rules, more);
  return world.until(Promise.resolve(decideAlone(cluster.checkRouter, check)), 5_000);
}

describe('policies in a cluster', () => {
  it('are in force on all nodes when the writer is answered, whichever node was asked', async () => {
    const world = createWorld(1, { bytes: true });
    const ids = await startCluster(world, 4);
    for (const [i, at] of ids.entries()) {
      const written = await world.until(put(world, at, policyKey('api'), perHour(10 + i)), 5_000);
      expect(written).to.include({ kind: 'written', version: i + 1 });
      for (const id of ids) expect(limitAt(world, id, 'api'), id).to.equal(10 + i);
    }
    await world.until(put(world, 'b:1', policyKey('api'), null), 5_000);
    for (const id of ids) expect(limitAt(world, id, 'api'), id).to.equal(undefined);
    expect(digests(world, ids).size).to.equal(1);
  });

  it('are refused beyond the bytes that the node which accepts them plans with', async () => {
    const world = createWorld(1);
    const stateBounds = { ...DEFAULT_STATE_BOUNDS, maxPolicyBytes: 100 };
    const ids = IDS.slice(0, 2);
    for (const id of ids) await world.until(world.spawn(id, { seeds: ids, stateBounds }).cluster.start(), 10_000);
    await world.run(500);
    expect(await world.until(put(world, 'a:1', policyKey('api'), perHour(10)), 5_000)).to.include({ kind: 'written' });
    expect(await world.until(put(world, 'a:1', policyKey('web'), perHour(10)), 5_000)).to.include({ kind: 'written' });
    for (const at of ids)
      expect(await world.until(put(world, at, policyKey('more'), perHour(10)), 5_000)).to.deep.equal({ kind: 'full' });
    for (const id of ids) expect(limitAt(world, id, 'more')).to.equal(undefined);
  });

  it('answer no writer before all nodes have the change, also one whose change another has just made', async () => {
    const world = createWorld(1);
    const ids = await startCluster(world, 4);
    const owner = world.node('a:1').cluster.membership.ring().owner('policies')!;
    const [first, second, slow] = ids.filter((id) => id !== owner) as [string, string, string];
    world.setLink((_from, to) => (to === slow ? 90 : 1));
    const seen: (number | undefined)[] = [];
    const writers = [first, second].map((at) =>
      put(world, at, policyKey('api'), perHour(7)).then((written) => {
        seen.push(limitAt(world, slow, 'api'));
        return written.kind;
      }),
    );
    expect(await world.until(Promise.all(writers), 5_000)).to.deep.equal(['written', 'written']);
    expect(seen).to.deep.equal([7, 7]);
  });

  it('answer no writer before a node has the change that came within reach meanwhile', async () => {
    const document = change(NO_DOCUMENT, new Map([[policyKey('api'), perHour(7)]]), 'a:1');
    const down = new Set(['c:1', 'd:1']);
    const waiting = new Map<string, () => void>();
    const { digest, version } = document;
    const ask: Ask = (to) =>
      new Promise((resolve) => {
        const body = { kind: 'policies', version, digest, entries: [], whole: false } as const;
        waiting.set(to, () => resolve({ kind: 'answer', body }));
      });
    const membership = {
      others: () => ['b:1', 'c:1', 'd:1'],
      isDown: (id: string) => down.has(id),
    } as unknown as Membership;
    const activePolicies = { document: () => document, onChange: () => undefined } as unknown as ActivePolicies;
    const options = { timeoutMs: 500 };
    const log = { info: () => undefined, warn: () => undefined };
    const entryParts = new EntryParts({ ask, current: () => document }, options);
    const parts = { timers: systemTimers, log, membership, activePolicies, ask, entryParts };
    const antiEntropy = new PolicyAntiEntropy(
      { ...parts, changes: new DocumentChanges(parts) },
      function* (mine) {
        return { next: mine, lost: [] };
      },
      options,
    );
    let isSpread = false;
    const spread = antiEntropy.spread(NO_DOCUMENT).then(() => (isSpread = true));
    expect([...waiting.keys()]).to.deep.equal(['b:1']);
    down.delete('c:1');
    waiting.get('b:1')!();
    await new Promise(setImmediate);
    expect([...waiting.keys()]).to.deep.equal(['b:1', 'c:1']);
    expect(isSpread).to.equal(false);
    waiting.get('c:1')!();
    await spread;
  });

  it('accept one of two concurrent changes of the same version, and refuse the other', async () => {
    const world = createWorld(2);
    const ids = await startCluster(world, 4);
    for (let round = 0; round < 5; round += 1) {
      const { version, digest } = world.node('a:1').cluster.activePolicies.document();
      const tags = [[String(version)], [`${version}-${digest}`]];
      const writes = ['b:1', 'c:1'].map((at, i) => put(world, at, policyKey('api'), perHour(10 * round + i), tags[i]));
      const outcomes = await world.until(Promise.all(writes), 5_000);
      expect(outcomes.map(({ kind }) => kind).sort()).to.deep.equal(['conflict', 'written']);
      const won = outcomes.findIndex(({ kind }) => kind === 'written');
      for (const id of ids) expect(limitAt(world, id, 'api'), id).to.equal(10 * round + won);
      expect(outcomes[1 - won]).to.include({ version: version + 1 });
    }
  });

  it('are changed once if the answer is lost and the change is sent again', async () => {
    let lose = true;
    const answer = (_from: string, _to: string, sent: Envelope<PeerAnswer>): Envelope<PeerAnswer> | undefined => {
      if (!lose || sent.body.kind !== 'policies-written') return sent;
      lose = false;
      return undefined;
    };
    const world = createWorld(11, { tamper: { answer } });
    const ids = await startCluster(world, 3);
    const taker = world.node('a:1').cluster.membership.ring().owner('policies')!;
    const at = ids.find((id) => id !== taker)!;
    const written = await world.until(put(world, at, policyKey('api'), perHour(10), ['0']), 9_000);
    expect(lose).to.equal(false);
    expect(written).to.include({ kind: 'written', version: 1 });
  });

  it('are not changed by a node that was away before it is in the ring again, so that an acknowledged change stands', async () => {
    const world = createWorld(13);
    const ids = await startCluster(world, 4);
    await world.until(put(world, 'a:1', policyKey('api'), perHour(10)), 5_000);
    const taker = world.node('a:1').cluster.membership.ring().owner('policies')!;
    const other = ids.find((id) => id !== taker)!;
    world.freeze(taker);
    // The write waits in a socket, and is read first.
    let written: Promise<Written> | undefined;
    world.deliver(taker, () => {
      written = put(world, taker, policyKey('api'), perHour(13));
    });
    await world.run(2_000);
    for (const limit of [11, 12]) await world.until(put(world, other, policyKey('api'), perHour(limit)), 9_000);
    world.thaw(taker);
    await world.run(20);
    expect(await world.until(written!, 9_000)).to.deep.include({ kind: 'written', version: 4 });
    await world.run(1_000);
    for (const id of ids) expect(limitAt(world, id, 'api'), id).to.equal(13);
  });

  it('are in force on a joining node before it decides', async () => {
    const world = createWorld(3);
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', policyKey('api'), perHour(10)), 5_000);
    const joiner = world.spawn('d:1', { seeds: ids });
    let limitWhenReady: number | undefined;
    await world.until(
      joiner.cluster.start().then(() => (limitWhenReady = limitAt(world, 'd:1', 'api'))),
      10_000,
    );
    expect(limitWhenReady).to.equal(10);
  });

  it('are in force on a joining node before it decides, if they were written while it was on its way in', async () => {
    let written: Promise<Written> | undefined;
    const answer = (from: string, to: string, sent: Envelope<PeerAnswer>): Envelope<PeerAnswer> => {
      if (to === 'd:1' && sent.body.kind === 'policies' && written === undefined) {
        const { cluster } = world.node(from);
        // Late news: nothing listened there before it started.
        for (const id of ['a:1', 'b:1', 'c:1']) world.node(id).cluster.membership.connectionRefused('d:1');
        written = cluster.policies.write(new Map([[policyKey('api'), perHour(11)]]), undefined);
      }
      return sent;
    };
    const world: World = createWorld(3, { tamper: { answer } });
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', policyKey('api'), perHour(10)), 5_000);
    let limitWhenReady: number | undefined;
    const joined = world
      .spawn('d:1', { seeds: ids })
      .cluster.start()
      .then(() => (limitWhenReady = limitAt(world, 'd:1', 'api')));
    await world.until(joined, 10_000);
    expect(await world.until(written!, 5_000)).to.include({ kind: 'written' });
    expect(limitWhenReady).to.equal(11);
  });

  describe('of a node whose own document differs', () => {
    const WARNING = 'other nodes have overwritten policies of this node';
    const overwritten = (world: World, id: string): string[][] => {
      const all: string[][] = [];
      world.node(id).cluster.activePolicies.onOverwritten(({ keys }) => all.push([...keys]));
      return all;
    };
    const own = (...names: string[]): PolicyDocument =>
      names.reduce((document, name) => change(document, new Map([[policyKey(name), perHour(1)]]), 'd:1'), NO_DOCUMENT);

    it('are named in the log and reported if its join overwrites them', async () => {
      const world = createWorld(3, { log: true });
      const ids = await startCluster(world, 3);
      for (const limit of [8, 9]) await world.until(put(world, 'a:1', policyKey('api'), perHour(limit)), 5_000);
      const { cluster } = world.spawn('d:1', { seeds: ids });
      const reports = overwritten(world, 'd:1');
      cluster.activePolicies.adopt(own('api'));
      await world.until(cluster.start(), 10_000);
      expect(limitAt(world, 'd:1', 'api')).to.equal(9);
      expect(reports).to.deep.equal([['policy api']]);
      expect(world.log.filter((line) => line.includes(WARNING) && line.includes('policy api'))).to.have.lengthOf(1);
    });

    it('are reported by the members whose own they overwrite', async () => {
      const world = createWorld(3, { log: true });
      const ids = await startCluster(world, 3);
      await world.until(put(world, 'a:1', policyKey('api'), perHour(8)), 5_000);
      const reports = ids.map((id) => overwritten(world, id));
      const { cluster } = world.spawn('d:1', { seeds: ids });
      cluster.activePolicies.adopt(own('x', 'y', 'api'));
      await world.until(cluster.start(), 10_000);
      await world.run(2_000);
      for (const id of ids) expect(limitAt(world, id, 'api'), id).to.equal(1);
      for (const report of reports.flat()) expect(report).to.deep.equal(['policy api']);
      expect(reports.flat()).to.have.lengthOf.above(0);
    });

    it('are not reported if it has only missed a change', async () => {
      const world = createWorld(6, { log: true });
      const ids = await startCluster(world, 3);
      await world.until(put(world, 'a:1', policyKey('api'), perHour(1)), 5_000);
      const taker = world.node('a:1').cluster.membership.ring().owner('policies')!;
      const away = ids.find((id) => id !== taker)!;
      world.freeze(away);
      await world.run(2_000);
      await world.until(put(world, taker, policyKey('api'), perHour(2)), 9_000);
      world.thaw(away);
      await world.run(3_000);
      expect(limitAt(world, away, 'api')).to.equal(2);
      expect(world.log.filter((line) => line.includes(WARNING))).to.deep.equal([]);
    });
  });

  it('survive the loss of the node that was asked and of the node that accepted the change', async () => {
    const world = createWorld(4);
    const ids = await startCluster(world, 4);
    const taker = world.node('a:1').cluster.membership.ring().owner('policies')!;
    const asked = ids.find((id) => id !== taker)!;
    await world.until(put(world, asked, policyKey('api'), perHour(10)), 5_000);
    world.kill(taker);
    world.kill(asked);
    const left = ids.filter((id) => id !== taker && id !== asked);
    for (const id of left) expect(limitAt(world, id, 'api'), id).to.equal(10);
    await world.run(2_000);
    const [first, second] = left as [string, string];
    expect(await world.until(put(world, first, policyKey('api'), perHour(11)), 5_000)).to.include({ kind: 'written' });
    expect(limitAt(world, second, 'api')).to.equal(11);
  });

  it('are the same on all nodes after a partition, with the changes of both sides', async () => {
    const world = createWorld(5);
    const ids = await startCluster(world, 4);
    await world.until(put(world, 'a:1', policyKey('both'), perHour(1)), 5_000);
    const side = (id: string): number => (id < 'c' ? 0 : 1);
    world.setLink((from, to) => (side(from) === side(to) ? 1 : undefined));
    await world.run(3_000);
    for (const [at, name, limit] of [
      ['a:1', 'both', 2],
      ['d:1', 'both', 3],
      ['d:1', 'both', 4],
      ['b:1', 'left', 5],
      ['c:1', 'right', 6],
    ] as const) {
      expect(await world.until(put(world, at, policyKey(name), perHour(limit)), 9_000)).to.include({ kind: 'written' });
    }
    const before = Math.max(...ids.map((id) => world.node(id).cluster.activePolicies.document().version));
    world.setLink(() => 1);
    await world.run(3_000);
    for (const id of ids) {
      expect([limitAt(world, id, 'both'), limitAt(world, id, 'left'), limitAt(world, id, 'right')], id).to.deep.equal([
        4, 5, 6,
      ]);
      expect(world.node(id).cluster.activePolicies.document().version).to.be.above(before);
    }
    expect(digests(world, ids).size).to.equal(1);
  });

  it('reach a node that missed a change within a second, although messages are lost', async () => {
    const world = createWorld(6);
    const ids = await startCluster(world, 3);
    const lost = ids.find((id) => id !== world.node('a:1').cluster.membership.ring().owner('policies'))!;
    let deaf = true;
    world.setLink((_from, to, random) => ((deaf && to === lost) || random.chance(0.1) ? undefined : 1));
    const at = ids.find((id) => id !== lost)!;
    const writing = put(world, at, policyKey('api'), perHour(10));
    await world.run(400);
    expect(limitAt(world, lost, 'api')).to.equal(undefined);
    deaf = false;
    await world.run(1_000);
    expect(limitAt(world, lost, 'api')).to.equal(10);
    await world.until(writing, 5_000);
  });

  it('change the limit of existing buckets at once, and keep their consumption', async () => {
    const world = createWorld(7);
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', policyKey('api'), perHour(10)), 5_000);
    for (const clientId of ['x', 'y', 'z']) {
      for (let i = 0; i < 8; i += 1) await ask(world, ids[i % 3]!, clientId, 'api');
    }
    await world.until(put(world, 'b:1', policyKey('api'), perHour(20)), 5_000);
    expect((await ask(world, 'c:1', 'x', 'api', { cost: 12 })).allowed).to.equal(true);
    expect((await ask(world, 'a:1', 'x', 'api')).allowed).to.equal(false);
    await world.until(put(world, 'c:1', policyKey('api'), perHour(8)), 5_000);
    expect((await ask(world, 'a:1', 'y', 'api')).allowed).to.equal(false);
    await world.until(put(world, 'c:1', overrideKey('api', 'z'), { limit: 9 }), 5_000);
    expect((await ask(world, 'a:1', 'z', 'api')).allowed).to.equal(true);
    expect((await ask(world, 'b:1', 'z', 'api')).allowed).to.equal(false);
  });

  it('end remembered denials at once, as a reset does', async () => {
    const world = createWorld(8);
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', policyKey('api'), perHour(1)), 5_000);
    const owner = world.node('a:1').cluster.membership.ring().owner('x')!;
    const other = ids.find((id) => id !== owner)!;
    const denied = async (): Promise<void> => {
      for (let i = 0; i < 3; i += 1) await ask(world, other, 'x', 'api');
      expect(await ask(world, other, 'x', 'api')).to.include({ allowed: false, source: 'deny-cache' });
    };
    await denied();
    await world.until(put(world, owner, policyKey('api'), perHour(2)), 5_000);
    expect(await ask(world, other, 'x', 'api')).to.include({ allowed: true, source: 'forwarded' });
    await denied();
    await world.until(put(world, owner, overrideKey('api', 'x'), { limit: 3 }), 5_000);
    expect(await ask(world, other, 'x', 'api')).to.include({ allowed: true, source: 'forwarded' });
    await denied();
    await world.until(world.node(owner).cluster.admin.forget('x'), 5_000);
    expect(await ask(world, other, 'x', 'api')).to.include({ allowed: true, source: 'forwarded' });
  });

  it('end leases at once, so that no lease is spent under other rules', async () => {
    const world = createWorld(9);
    const ids = await startCluster(world, 3);
    await world.until(put(world, 'a:1', policyKey('api'), perHour(1_000)), 5_000);
    const owner = world.node('a:1').cluster.membership.ring().owner('x')!;
    const other = ids.find((id) => id !== owner)!;
    let source: string | undefined;
    for (let i = 0; i < 200 && source !== 'lease'; i += 1) ({ source } = await ask(world, other, 'x', 'api'));
    expect(source).to.equal('lease');
    await world.until(put(world, owner, policyKey('api'), perHour(5)), 5_000);
    expect(await ask(world, other, 'x', 'api')).to.include({ allowed: false, source: 'forwarded', limit: 5 });
  });

  it('decide each for itself what happens if no node answers', async () => {
    const world = createWorld(10);
    await startCluster(world, 3);
    const { membership } = world.node('a:1').cluster;
    const parts = { clock: { nowMs: () => 0 }, membership, topClients: new TopClients(1) };
    const fallback = new Fallback({ ...parts, onUnavailable: 'local', maxClients: 9, maxBytes: 1e6 });
    const decide = (onUnavailable: FallbackMode | undefined): Decision => {
      const text = { limit: 9, window: '1h' };
      const policy = policyOf('api', onUnavailable === undefined ? text : { ...text, onUnavailable });
      const terms = { policy, listed: undefined };
      const item = new CheckBatch().add(createCheck(clientKey('x'), policy.rules, { terms }));
      fallback.answer(item);
      return item.decision;
    };
    expect(decide('closed')).to.include({ allowed: false, source: 'fallback', degraded: true });
    for (let i = 0; i < 9; i += 1) expect(decide('open').allowed).to.equal(true);
    expect([1, 2, 3, 4].map(() => decide(undefined).allowed)).to.deep.equal([true, true, true, false]);
  });

  describe('of many megabytes', () => {
    const KIB = 1024;
    const many = (count: number, limit: number): Map<string, EntryValue> =>
      new Map(
        Array.from({ length: count }, (_, i): [string, EntryValue] => [
          overrideKey('api', `client ${i}`.padEnd(250, 'x')),
          perHour(limit),
        ]),
      );
    const sizes: number[] = [];
    const KINDS: readonly string[] = ['policies', 'policy-part', 'write-policies', 'policies-written'];
    const note = (kind: string, bytes: Buffer): void => {
      if (KINDS.includes(kind)) sizes.push(bytes.length);
    };
    const tamper: Tamper = {
      message(_from, _to, sent) {
        note(sent.body.kind, encodeMessage(sent));
        return sent;
      },
      answer(_from, _to, sent) {
        note(sent.body.kind, encodeAnswer(sent));
        return sent;
      },
    };

    beforeEach(() => (sizes.length = 0));

    it('reach all nodes in messages of at most 80 KiB, as one document, whichever node was asked', async () => {
      const world = createWorld(1, { bytes: true, tamper });
      const ids = await startCluster(world, 3);
      const owner = world.node('a:1').cluster.membership.ring().owner('policies')!;
      const seen = new Set<number>();
      for (const id of ids) world.node(id).cluster.activePolicies.onChange(({ entries }) => seen.add(entries.size));
      await world.until(put(world, owner, policyKey('api'), perHour(1)), 5_000);
      const other = ids.find((id) => id !== owner)!;
      const writing = world.node(other).cluster.policies.write(many(5_000, 7));
      expect(await world.until(writing, 10_000)).to.include({ kind: 'written', version: 2 });
      for (const id of ids) expect(limitAt(world, id, 'api', `client 4999`.padEnd(250, 'x')), id).to.equal(7);
      expect(digests(world, ids).size).to.equal(1);
      expect([...seen]).to.deep.equal([1, 5_001]);

      await world.until(put(world, other, policyKey('api'), perHour(2)), 5_000);
      for (const id of ids) expect(limitAt(world, id, 'api'), id).to.equal(2);
      await world.until(world.spawn('d:1', { seeds: ids }).cluster.start(), 10_000);
      expect(digests(world, [...ids, 'd:1']).size).to.equal(1);
      expect(Math.max(...sizes)).to.be.within(60 * KIB, 80 * KIB);
    });

    it('are merged after a partition', async () => {
      const world = createWorld(1, { bytes: true, tamper });
      const ids = await startCluster(world, 2);
      world.setLink(() => undefined);
      await world.run(3_000);
      for (const [i, id] of ids.entries()) {
        const entries = new Map([[policyKey('api'), perHour(1)], ...[...many(5_000, i + 1)].slice(i * 1_000)]);
        const writing = world.node(id).cluster.policies.write(entries);
        expect(await world.until(writing, 5_000)).to.include({ kind: 'written' });
      }
      expect(digests(world, ids).size).to.equal(2);
      world.setLink(() => 1);
      await world.run(5_000);
      expect(digests(world, ids).size).to.equal(1);
      expect(world.node('a:1').cluster.activePolicies.document().entries.size).to.equal(5_001);
      expect(Math.max(...sizes)).to.be.within(60 * KIB, 80 * KIB);
    });
  });

  it('are changed in turns: one step in each, one change after the other, anew if another document came between', async () => {
    const first = change(NO_DOCUMENT, new Map([[policyKey('api'), perHour(1)]]), 'a:1');
    const second = change(first, new Map([[policyKey('api'), perHour(2)]]), 'a:1');
    const log: string[] = [];
    const turns: (() => void)[] = [];
    const activePolicies = new ActivePolicies((_, rules) => rules);
    const changes = new DocumentChanges({ activePolicies, timers: { soon: (action) => void turns.push(action) } });
    const work = (name: string) =>
      function* (mine: PolicyDocument): Steps<string> {
        log.push(`${name} from ${mine.version}`);
        yield;
        log.push(`${name} again`);
        yield;
        return name;
      };
    const slow = changes.make(work('slow'), (prepared) => {
      log.push(`${prepared} is made`);
      activePolicies.adopt(second);
      return new Promise<string>(() => undefined);
    });
    const next = changes.make(work('next'), (_, { version }) => version);
    const turn = async (): Promise<void> => {
      await new Promise(setImmediate);
      for (const action of turns.splice(0)) action();
    };
    await turn();
    activePolicies.adopt(first);
    for (let i = 0; i < 5; i += 1) await turn();
    expect(await next).to.equal(2);
    const attempt = ['slow from 1', 'slow again'];
    expect(log).to.deep.equal([
      ...['slow from 0', 'slow again', ...attempt, 'slow is made'],
      ...['next from 2', 'next again'],
    ]);
    expect(await Promise.race([slow, Promise.resolve('waits')])).to.equal('waits');
  });

  it('are never half applied: changes that do not lead to the sender’s document are not applied', async () => {
    const world = createWorld(12);
    await startCluster(world, 1);
    const { cluster } = world.node('a:1');
    await world.until(put(world, 'a:1', policyKey('mine'), perHour(1)), 5_000);
    const document = cluster.activePolicies.document();
    // Another node made two changes, and sends only the second.
    const first = change(document, new Map([[policyKey('first'), perHour(2)]]), 'b:1');
    const second = change(first, new Map([[policyKey('second'), perHour(3)]]), 'b:1');
    const key = policyKey('second');
    const { version, digest, entries } = second;
    const from = {
      id: 'b:1',
      incarnation: 1,
      state: 'active' as const,
      beat: 1,
      version: '0',
      url: '',
      silentMs: 0,
      suspected: false,
    };
    const sender = { from, view: 'x', policies: digest };
    const news = [[key, entries.get(key)!]] as const;
    const body = { kind: 'policies' as const, version, digest, entries: news, whole: false };
    const { body: answer } = await cluster.receive({ sender, body });
    expect(cluster.activePolicies.document()).to.equal(document);
    expect(answer).to.deep.include({ kind: 'policies', digest: document.digest, whole: true });
    await cluster.receive({ sender, body: { ...body, entries: [...entries], whole: true } });
    expect(cluster.activePolicies.document().digest).to.equal(digest);
  });
});

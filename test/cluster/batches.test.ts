import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { finish } from '../../src/lib/turns.js';
import type { Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { TokenringError } from '../../src/lib/error.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { BatchReader } from '../../src/server/validate/batch-reader.js';
import { WITHOUT_POLICIES } from '../../src/policy/active-policies.js';
import { answersOf, checkMany as checkManyOf, type Answer } from '../support/batch.js';
import type { World } from '../sim/world.js';
import { checkOf, startRing } from './traffic.js';

const RULES = [ruleOf('token-bucket', 9, 3_600_000, 9, undefined)];

function checkMany(world: World, at: NodeId, checks: readonly Check[]): Promise<Answer[]> {
  return world.until(checkManyOf(world.node(at).cluster.checks, checks), 10_000);
}

function isOverload(answer: Answer): boolean {
  return answer instanceof TokenringError && answer.code === 'overloaded';
}

const isAllowed = (answer: Answer): boolean => !(answer instanceof TokenringError) && answer.allowed;

describe('a batch of checks', () => {
  it('is answered in its order, whoever owns its clients, and asks each owner once', async () => {
    const { world, ids, sent } = await startRing(3);
    const ring = world.node('a:1').cluster.membership.ring();
    const clients = Array.from({ length: 300 }, (_, i) => `client ${i}`);
    for (const remaining of [8, 7]) {
      sent.clear();
      const answers = await checkMany(
        world,
        'a:1',
        clients.map((id) => checkOf(id, RULES)),
      );
      answers.forEach((answer, i) => {
        const owner = ring.owner(clients[i]!)!;
        const source = owner === 'a:1' ? 'owner' : 'forwarded';
        expect(answer, clients[i]).to.include({ allowed: true, remaining, owner, source, degraded: false });
      });
      expect(sent.get('decide')).to.equal(ids.length - 1);
    }
  });

  it('charges a client that it names several times once for each', async () => {
    const { world, ids } = await startRing(3);
    for (const at of ids) {
      const checks = Array.from({ length: 20 }, () => checkOf(`of ${at}`, RULES));
      const answers = (await checkMany(world, at, checks)) as Decision[];
      expect(answers.filter(isAllowed).length).to.equal(9);
      expect(answers.slice(0, 9).map(({ remaining }) => remaining)).to.deep.equal([8, 7, 6, 5, 4, 3, 2, 1, 0]);
    }
  });

  it('gives the first decision again on request ids in the bytes of a message, also for a copy', async () => {
    const { world } = await startRing(3);
    const ring = world.node('a:1').cluster.membership.ring();
    const clients = Array.from({ length: 60 }, (_, i) => `client ${i}`).filter((id) => ring.owner(id) === 'a:1');
    const items = clients.map((clientId) => ({ clientId, limit: 9, window: '1h', requestId: `of ${clientId}` }));
    const body = Buffer.from(JSON.stringify({ requests: items }));
    const reader = new BatchReader(WITHOUT_POLICIES);
    for (const repeat of [false, true]) {
      const unread = reader.begin(body);
      finish(unread.reading());
      const { batch } = unread;
      const last = batch.items.at(-1)!;
      expect(last.isObject).to.equal(false);
      await world.until(Promise.resolve(world.node('a:1').cluster.checks.decide(batch)), 10_000);
      if (repeat) expect(last.isObject).to.equal(false);
      for (const answer of answersOf(batch)) expect(answer).to.include({ allowed: true, remaining: 8, owner: 'a:1' });
    }
    await world.run(1_000);
    world.kill('a:1');
    await world.run(5_000);
    const checks = items.map(({ clientId, requestId }) => checkOf(clientId, RULES, { requestId }));
    for (const answer of await checkMany(world, 'b:1', checks)) expect(answer).to.include({ remaining: 8 });
  });

  it('has what is to be replicated acknowledged in one message a replica', async () => {
    const { world, sent } = await startRing(3, { replicationIntervalMs: 60_000 });
    const ring = world.node('a:1').cluster.membership.ring();
    const own = Array.from({ length: 400 }, (_, i) => `client ${i}`).filter((id) => ring.owner(id) === 'a:1');
    const checks = own.map((id) => checkOf(id, RULES, { replicated: true }));
    sent.clear();
    const answers = (await checkMany(world, 'a:1', checks)) as Decision[];
    expect(answers.every(({ allowed, degraded }) => allowed && !degraded)).to.equal(true);
    expect(sent.get('replicate')).to.equal(2);
  });

  it('goes on at this node when an owner dies with it', async () => {
    const { world } = await startRing(3);
    const ring = world.node('a:1').cluster.membership.ring();
    const clients = Array.from({ length: 100 }, (_, i) => `client ${i}`);
    const answering = checkMany(
      world,
      'a:1',
      clients.map((id) => checkOf(id, RULES)),
    );
    world.kill('b:1');
    const answers = await answering;
    answers.forEach((answer, i) => {
      expect(isAllowed(answer), clients[i]).to.equal(true);
      if (ring.owner(clients[i]!) === 'b:1') expect((answer as Decision).owner).not.to.equal('b:1');
    });
  });
});

describe('more checks than may wait for their owner', () => {
  for (const onUnavailable of ['local', 'open'] as const) {
    it(`are answered as overload, and admit nothing, where unavailable means ${onUnavailable}`, async () => {
      const { world, ids } = await startRing(3, { onUnavailable });
      const ring = world.node('a:1').cluster.membership.ring();
      const owner = ring.owner('used up')!;
      const others = ids.filter((id) => id !== owner);
      const named = (i: number): Check => checkOf('used up', RULES, { requestId: `request ${i}` });
      const first = await checkMany(
        world,
        owner,
        Array.from({ length: 9 }, (_, i) => named(i)),
      );
      expect(first.every(isAllowed)).to.equal(true);
      const { checks: pipeline } = world.node(others[0]!).cluster;
      const batches = Array.from({ length: 13 }, (_, batch) =>
        Array.from({ length: 1_000 }, (_, i) => named(1_000 * (batch + 1) + i)),
      );
      const answers = (
        await world.until(Promise.all(batches.map((checks) => checkManyOf(pipeline, checks))), 10_000)
      ).flat();
      expect(answers.filter(isAllowed)).to.deep.equal([]);
      // Ten thousand wait, and two batches are in flight.
      expect(answers.filter(isOverload).length).to.be.within(1_900, 3_000);
      const one = Promise.all(
        batches.flat().map((check) => Promise.resolve(decideAlone(pipeline, check)).catch(String)),
      );
      expect((await world.until(one, 10_000)).filter((answer) => typeof answer === 'string')).to.have.length(3_000);
    });
  }

  it('are no longer too many once the owner has answered', async () => {
    const { world, ids } = await startRing(3);
    const ring = world.node('a:1').cluster.membership.ring();
    const owner = ring.owner('x')!;
    const at = ids.find((id) => id !== owner)!;
    const { checks: pipeline } = world.node(at).cluster;
    const flood = Array.from({ length: 13_000 }, (_, i) => checkOf('x', RULES, { requestId: `${i}` }));
    const answers = await world.until(checkManyOf(pipeline, flood), 10_000);
    expect(answers.filter(isOverload).length).to.be.within(1_900, 3_000);
    expect(await checkMany(world, at, [checkOf('x', RULES, { peek: true })])).to.have.nested.property(
      '[0].source',
      'forwarded',
    );
  });
});

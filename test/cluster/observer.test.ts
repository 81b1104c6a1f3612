import { expect } from 'chai';
import { slidingWindow, tokenBucket } from '../support/rules.js';
import { checkOf, drive, startRing } from './traffic.js';

const HOURLY = [tokenBucket(5, 3_600_000)];

describe('the observer', () => {
  it('ranks the clients of all members, whichever node was asked and whoever decided', async () => {
    const { world, ids } = await startRing(3, {}, { bytes: true });
    // Leased tokens, remembered denials, and forwards: each decision is counted once.
    const answers = await drive(world, ids, {
      perSecond: 400,
      forMs: 1_000,
      check: (i) =>
        checkOf(i % 4 === 0 ? 'hot' : `client ${i % 40}`, i % 4 === 0 ? [tokenBucket(1_000, 1_000)] : HOURLY),
    });
    await world.run(100);
    const count = (clientId: string, allowed?: boolean): number =>
      answers.filter(
        ({ check, decision }) => check.clientId === clientId && (allowed === undefined || decision.allowed === allowed),
      ).length;
    for (const at of ids) {
      const { observer } = world.node(at).cluster;
      const { clients, missing } = await world.until(
        observer.top({ by: 'asked', span: 'hour', policy: undefined }, 64),
        5_000,
      );
      expect(missing).to.deep.equal([]);
      expect(clients[0]!.clientId).to.equal('hot');
      for (const one of clients) expect(one.count, one.clientId).to.be.closeTo(count(one.clientId), one.error + 0.1);
      expect(clients).to.have.length(31);
      const denied = await world.until(observer.top({ by: 'denied', span: 'hour', policy: undefined }, 3), 5_000);
      expect(denied.clients).to.have.length(3);
      for (const one of denied.clients)
        expect(one.count, one.clientId).to.be.closeTo(count(one.clientId, false), one.error + 0.1);
    }
  });

  it('counts the clients of a policy apart', async () => {
    const { world, ids } = await startRing(2);
    const rule = { ...slidingWindow(1, 1_000), policy: 'free' };
    await drive(world, ids, { perSecond: 10, forMs: 1_000, check: (i) => checkOf('a', i % 2 === 0 ? [rule] : HOURLY) });
    const { clients } = await world.until(
      world.node(ids[0]!).cluster.observer.top({ by: 'asked', span: 'hour', policy: 'free' }, 10),
      5_000,
    );
    expect(clients.map(({ clientId, policy }) => [clientId, policy])).to.deep.equal([['a', 'free']]);
  });

  it('names the members that do not answer, and answers without them', async () => {
    const { world, ids } = await startRing(3);
    await drive(world, ids, { perSecond: 100, forMs: 300, check: (i) => checkOf(`client ${i}`, HOURLY) });
    world.kill(ids[2]!);
    const { observer } = world.node(ids[0]!).cluster;
    const top = await world.until(observer.top({ by: 'asked', span: 'minute', policy: undefined }, 64), 5_000);
    expect(top.missing).to.deep.equal([ids[2]]);
    expect(top.clients.length).to.be.within(5, 29);
    const reports = await world.until(observer.reports(), 5_000);
    expect([...reports].filter(([, report]) => report === undefined).map(([id]) => id)).to.deep.equal([ids[2]]);
    expect(reports.get(ids[1]!)!.clients).to.be.above(0);
  });

  it('adds up the requests under a policy to all members, and names those that do not answer', async () => {
    const { world, ids } = await startRing(3);
    const nodes = ids.map((id) => world.node(id).cluster);
    await world.until(nodes[0]!.policies.write(new Map([['policy api', { limit: 5, window: '1m' }]])), 5_000);
    nodes[1]!.activePolicies.resolve('alice', 'api');
    await world.run(2_000);
    nodes[2]!.activePolicies.resolve('bob', 'api');
    await world.run(1_000);
    const use = (): ReturnType<(typeof nodes)[0]['observer']['use']> => nodes[0]!.observer.use('api');
    const found = await world.until(use(), 5_000);
    expect(found).to.deep.include({ asks: 2, missing: [] });
    expect(found.lastMs).to.be.within(1_000, 1_500);
    world.kill(ids[2]!);
    expect(await world.until(use(), 5_000)).to.deep.include({ asks: 1, missing: [ids[2]] });
  });
});

import { expect } from 'chai';
import { inScope, ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import type { World } from '../sim/world.js';
import { checkOf, drive, shareOf, startRing, type Answer } from './traffic.js';

const HOUR_MS = 3_600_000;
const SCOPES = [undefined, 'a', 'b'];
const perHour = (limit: number, scope: string | undefined): readonly Rule[] =>
  inScope([ruleOf('token-bucket', limit, HOUR_MS, limit, undefined)], scope);

const isDenied = ({ decision }: Answer): boolean => !decision.allowed;
const isLeased = ({ decision }: Answer): boolean => decision.source === 'lease';
const isRemembered = ({ decision }: Answer): boolean => decision.source === 'deny-cache';

function leftAt(world: World, node: string, clientId: string): Record<string, number> {
  const { buckets } = world.node(node).cluster.admin.describeHere(clientId);
  return Object.fromEntries(buckets.map(({ scope = '', remaining }) => [scope, remaining]));
}

/** Takes 1, 2, and 3 tokens of 10 in three scopes of each client, at all nodes in turn. */
async function consume(world: World, ids: readonly string[], clients: readonly string[]): Promise<void> {
  for (const clientId of clients)
    for (const [i, scope] of SCOPES.entries()) {
      const check = checkOf(clientId, perHour(10, scope), { cost: i + 1 });
      await drive(world, [ids[i % ids.length]!], { perSecond: 1_000, forMs: 1, check: () => check });
    }
  await world.run(200);
}

const CLIENTS = Array.from({ length: 12 }, (_, i) => `client ${i}`);
const LEFT = { '': 9, a: 8, b: 7 };

describe('scopes of one client', () => {
  it('have buckets of their own at one owner, whichever nodes are asked', async () => {
    const { world, ids } = await startRing(3);
    await consume(world, ids, CLIENTS);
    for (const clientId of CLIENTS) {
      const owner = world.node('a:1').cluster.membership.ring().owner(clientId)!;
      expect(leftAt(world, owner, clientId)).to.deep.equal(LEFT);
    }
  });

  it('stay apart in copies: the owner is lost, and its clients have what they had', async () => {
    const { world, ids } = await startRing(3);
    await consume(world, ids, CLIENTS);
    const ring = world.node('a:1').cluster.membership.ring();
    world.kill('b:1');
    await world.run(3_000);
    for (const clientId of CLIENTS) {
      const [heir] = ring.successors(clientId, 1);
      const now = ring.owner(clientId) === 'b:1' ? heir! : ring.owner(clientId)!;
      expect(leftAt(world, now, clientId), clientId).to.deep.equal(LEFT);
    }
  });

  it('stay apart when they move to a member that joins, and back when it leaves', async () => {
    const { world, ids } = await startRing(3);
    await consume(world, ids, CLIENTS);
    await world.until(world.spawn('d:1', { seeds: ids }).cluster.start(), 10_000);
    await world.run(500);
    const ownerOf = (clientId: string): string => world.node('a:1').cluster.membership.ring().owner(clientId)!;
    expect(CLIENTS.map(ownerOf)).to.include('d:1');
    for (const clientId of CLIENTS) expect(leftAt(world, ownerOf(clientId), clientId)).to.deep.equal(LEFT);
    await world.until(world.node('d:1').cluster.leave(), 10_000);
    await world.run(500);
    for (const clientId of CLIENTS) expect(leftAt(world, ownerOf(clientId), clientId)).to.deep.equal(LEFT);
  });

  it('have denials of their own: one that is remembered denies no other scope', async () => {
    const { world, ids } = await startRing(3);
    const owner = world.node('a:1').cluster.membership.ring().owner('abuser');
    const others = ids.filter((id) => id !== owner);
    for (const scope of SCOPES) {
      const check = checkOf('abuser', perHour(5, scope));
      const answers = await drive(world, others, { perSecond: 1_000, forMs: 200, check: () => check });
      expect(answers.filter((answer) => !isDenied(answer))).to.have.lengthOf(5);
      expect(shareOf(answers, isRemembered)).to.be.above(0.5);
    }
  });

  it('are all remembered where their client is denied in each in turn, with few messages', async () => {
    const { world, ids, sent } = await startRing(3);
    const owner = world.node('a:1').cluster.membership.ring().owner('abuser');
    const others = ids.filter((id) => id !== owner);
    const checks = SCOPES.map((scope) => checkOf('abuser', perHour(5, scope)));
    const hammer = { perSecond: 1_000, check: (i: number) => checks[i % checks.length]! };
    await drive(world, others, { ...hammer, forMs: 200 });
    sent.clear();
    const answers = await drive(world, others, { ...hammer, forMs: 1_000 });
    expect([shareOf(answers, isDenied), shareOf(answers, isRemembered)]).to.deep.equal([1, 1]);
    expect(sent.get('decide')).to.equal(undefined);
    await world.until(world.node('a:1').cluster.admin.forget('abuser'), 1_000);
    expect(shareOf(await drive(world, others, { ...hammer, forMs: 3 }), isDenied)).to.equal(0);
  });

  it('have leases of their own: tokens of one pay for no other', async () => {
    const { world, ids } = await startRing(3);
    const hot = checkOf('hot', perHour(1_000, 'a'));
    const other = checkOf('hot', perHour(10, 'b'));
    const answers = await drive(world, ids, {
      perSecond: 1_000,
      forMs: 1_500,
      check: (i) => (i % 5 === 4 ? other : hot),
    });
    expect(shareOf(answers, isLeased)).to.be.above(0.1);
    const passed = (check: typeof hot): number =>
      answers.filter((answer) => answer.check === check && !isDenied(answer)).length;
    expect([passed(hot), passed(other)]).to.deep.equal([1_000, 10]);
  });

  it('are each leased where their client is hot in several, and all returned', async () => {
    const { world, ids } = await startRing(3);
    const checks = SCOPES.map((scope) => checkOf('hot', perHour(100_000, scope)));
    const hot = { perSecond: 6_000, forMs: 1_000, check: (i: number) => checks[Math.floor(i / 3) % 3]! };
    const answers = await drive(world, ids, hot);
    for (const check of checks) {
      const own = answers.filter((answer) => answer.check === check);
      expect(shareOf(own, isLeased), check.rules[0]!.scope).to.be.above(0.5);
    }
    await world.until(world.node('a:1').cluster.admin.forget('hot'), 1_000);
    for (const id of ids) expect(world.node(id).cluster.stats().leasedClients).to.equal(0);
  });

  it('are all forgotten with their client, on every node', async () => {
    const { world, ids } = await startRing(3);
    await consume(world, ids, CLIENTS);
    for (const clientId of CLIENTS) await world.until(world.node('a:1').cluster.admin.forget(clientId), 1_000);
    for (const id of ids) for (const clientId of CLIENTS) expect(leftAt(world, id, clientId)).to.deep.equal({});
  });
});

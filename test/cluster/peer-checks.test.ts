import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { TokenringError } from '../../src/lib/error.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { waitingChecksBytes } from '../../src/limits/heap-bytes.js';
import type { Check } from '../../src/limits/decide/check.js';
import type { Envelope, MemberRecord, PeerAnswer } from '../../src/protocol/messages.js';
import { DEFAULT_STATE_BOUNDS } from '../../src/node/wiring.js';
import type { World } from '../sim/world.js';
import { checkOf, startRing } from './traffic.js';

const RULES = [ruleOf('token-bucket', 9, 3_600_000, 9, undefined)];

function ownedBy(world: World, owner: string, count: number): string[] {
  const ring = world.node(owner).cluster.membership.ring();
  const ids = Array.from({ length: 40 * count }, (_, i) => `client ${i}`);
  return ids.filter((id) => ring.owner(id) === owner).slice(0, count);
}

/** What the checks of one node come to: allowed, denied, or the code of the problem. */
function ask(world: World, at: string, checks: readonly Check[]): { outcomes: string[]; all: Promise<unknown> } {
  const outcomes: string[] = [];
  const all = checks.map(async (check) => {
    try {
      outcomes.push((await decideAlone(world.node(at).cluster.checkRouter, check)).allowed ? 'allowed' : 'denied');
    } catch (error) {
      outcomes.push(error instanceof TokenringError ? error.code : String(error));
    }
  });
  return { outcomes, all: Promise.all(all) };
}

describe('the checks of peers that wait at an owner', () => {
  const [some, more] = [20, 30];

  /** A ring whose nodes have room for fewer than `some` checks that wait. The last message may exceed it. */
  async function startSmall(): Promise<World> {
    const check = checkOf('client 1', RULES);
    const maxWaitingCheckBytes = waitingChecksBytes(Array<Check>(some - 1).fill(check));
    const stateBounds = { ...DEFAULT_STATE_BOUNDS, maxWaitingCheckBytes };
    return (await startRing(4, { stateBounds })).world;
  }

  it('take memory up to a bound that all links share while it may not decide; further ones are overload', async () => {
    const world = await startSmall();
    const release = world.node('b:1').cluster.gate.close();
    const clients = ownedBy(world, 'b:1', some + more);
    const first = ask(
      world,
      'a:1',
      clients.slice(0, some).map((id) => checkOf(id, RULES)),
    );
    await world.run(20);
    const later = ask(
      world,
      'c:1',
      clients.slice(some).map((id) => checkOf(id, RULES)),
    );
    await world.until(later.all, 200);
    expect(later.outcomes).to.deep.equal(Array(more).fill('overloaded'));
    expect(first.outcomes).to.deep.equal([]);
    release();
    await world.until(first.all, 200);
    expect(first.outcomes).to.deep.equal(Array(some).fill('allowed'));
    // The memory is free again, and no refused check was charged.
    const { admin } = world.node('b:1').cluster;
    for (const id of clients.slice(some)) expect(admin.describeHere(id).buckets).to.deep.equal([]);
    const again = ask(
      world,
      'c:1',
      clients.slice(some).map((id) => checkOf(id, RULES)),
    );
    await world.until(again.all, 200);
    expect(again.outcomes).to.deep.equal(Array(more).fill('allowed'));
  });

  it('take it also while a replica has to acknowledge them; what needs no acknowledgement goes on', async () => {
    const world = await startSmall();
    // Nothing that `b:1` sends to others arrives in time.
    world.setLink((from) => (from === 'b:1' ? 400 : 1));
    const clients = ownedBy(world, 'b:1', some + more);
    const first = ask(
      world,
      'a:1',
      clients.slice(0, some).map((id) => checkOf(id, RULES, { replicated: true })),
    );
    await world.run(20);
    const later = ask(
      world,
      'c:1',
      clients.slice(some).map((id) => checkOf(id, RULES, { replicated: true })),
    );
    const plain = ask(
      world,
      'd:1',
      clients.slice(0, 3).map((id) => checkOf(id, RULES)),
    );
    await world.run(500);
    expect(later.outcomes).to.deep.equal(Array(more).fill('overloaded'));
    expect(plain.outcomes).to.deep.equal(Array(3).fill('allowed'));
    expect(first.outcomes).to.deep.equal([]);
    const { admin } = world.node('b:1').cluster;
    for (const id of clients.slice(some)) expect(admin.describeHere(id).buckets).to.deep.equal([]);
  });
});

describe('an answer that is kept in case its batch is sent again', () => {
  it('holds the decisions alone: the list of members in it is of the moment', async () => {
    const { world } = await startRing(2);
    const { cluster } = world.node('b:1');
    const from: MemberRecord = world.node('a:1').cluster.membership.self();
    const send = (): Promise<Envelope<PeerAnswer>> => {
      const [notOwned] = ownedBy(world, 'a:1', 1);
      const checks = [checkOf(notOwned!, RULES)];
      const sender = { from, view: '', policies: '' };
      return cluster.receive({ sender, body: { kind: 'decide', messageId: 'once', refused: [], checks } });
    };
    const beatsOf = async (): Promise<number> => {
      const { body } = await send();
      if (body.kind !== 'decided') throw new Error(body.kind);
      expect(body.results).to.deep.equal(['not-mine']);
      return body.members.find(({ id }) => id === 'b:1')!.beat;
    };
    const before = await beatsOf();
    await world.run(1_000);
    expect(await beatsOf()).to.be.above(before);
  });

  it('is there for twice as long as a sender waits, however long the suspicion time', async () => {
    const { world } = await startRing(2, { suspectAfterMs: 5_000 });
    const { cluster } = world.node('b:1');
    const [owned] = ownedBy(world, 'b:1', 1);
    const send = async (): Promise<unknown> => {
      const sender = { from: world.node('a:1').cluster.membership.self(), view: '', policies: '' };
      const checks = [checkOf(owned!, RULES)];
      const { body } = await cluster.receive({
        sender,
        body: { kind: 'decide', messageId: 'once', refused: [], checks },
      });
      if (body.kind !== 'decided') throw new Error(body.kind);
      expect(body.results).not.to.include('not-mine');
      return body.results;
    };
    const first = await send();
    await world.run(2 * 1.5 * 5_000 - 100);
    expect(await send()).to.deep.equal(first);
  });
});

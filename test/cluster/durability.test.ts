import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { Check } from '../../src/limits/decide/check.js';
import { policyKey } from '../../src/policy/policy-entry.js';
import { readCheck } from '../../src/server/validate/request.js';
import { createWorld, type World, type WorldOptions } from '../sim/world.js';

const IDS = ['a:1', 'b:1', 'c:1', 'd:1'];
const LIMIT = 20;
/** Copies that nobody waits for come long after the answers. */
const INTERVAL_MS = 500;
const clients = Array.from({ length: 24 }, (_, i) => `client ${i}`);

async function startCluster(seed: number, count: number, options: WorldOptions = {}): Promise<World> {
  const world = createWorld(seed, options);
  world.setLink(() => 3);
  const ids = IDS.slice(0, count);
  for (const id of ids) {
    const { cluster } = world.spawn(id, { seeds: ids, replicationIntervalMs: INTERVAL_MS });
    await world.until(cluster.start(), 10_000);
  }
  await world.run(500);
  return world;
}

/** As the API reads a request, under the policies that the node holds. */
function read(world: World, at: string, request: object): Check {
  return readCheck(request, world.node(at).cluster.activePolicies);
}

function ask(world: World, at: string, request: object): Promise<Decision> {
  const check = read(world, at, request);
  return world.until(Promise.resolve(decideAlone(world.node(at).cluster.checks, check)), 9_000);
}

const inRequest = (clientId: string): object => {
  return { clientId, limit: LIMIT, window: '1h', durability: 'replicated' };
};
const plain = (clientId: string): object => ({ clientId, limit: LIMIT, window: '1h' });

async function put(world: World, text: object): Promise<void> {
  const written = world.node('a:1').cluster.policies.write(new Map([[policyKey('api'), text as never]]));
  expect(await world.until(written, 5_000)).to.include({ kind: 'written' });
}

/** The owner of a client, the node with its copy, and one that is neither. */
function placesOf(world: World, clientId: string): { owner: string; successor: string; other: string } {
  const ring = world.node('a:1').cluster.membership.ring();
  const owner = ring.owner(clientId)!;
  const [successor] = ring.replicas(clientId, 1) as [string];
  return { owner, successor, other: ring.members.find((id) => id !== owner && id !== successor)! };
}

const usedAt = (world: World, at: string, clientId: string): number =>
  LIMIT - (world.node(at).cluster.admin.describeHere(clientId).buckets[0]?.remaining ?? LIMIT);

/** Uses up limits through one node, kills another the moment that all is answered, and counts what passes in all. */
async function admittedAround(
  seed: number,
  request: (clientId: string) => object,
  {
    all = clients,
    victim = 'b:1',
    before,
  }: { all?: string[]; victim?: string; before?: (world: World) => Promise<void> },
): Promise<Map<string, number>> {
  const world = await startCluster(seed, 4);
  await before?.(world);
  const admitted = new Map<string, number>();
  const count = (clientId: string, { allowed }: Decision): void => {
    if (allowed) admitted.set(clientId, (admitted.get(clientId) ?? 0) + 1);
  };
  const askAll = async (at: string): Promise<void> => {
    const asked = all.flatMap((clientId) =>
      Array.from({ length: LIMIT }, async () => {
        const check = read(world, at, request(clientId));
        count(clientId, await decideAlone(world.node(at).cluster.checks, check));
      }),
    );
    await world.until(Promise.all(asked), 9_000);
  };
  await askAll('a:1');
  world.kill(victim);
  await askAll('c:1');
  await world.run(3_000);
  await askAll('d:1');
  return admitted;
}

describe('a decision that is to be replicated', () => {
  it('is answered when a successor has it, and any other before', async () => {
    const world = await startCluster(1, 3);
    for (const clientId of clients) {
      const { owner, successor, other } = placesOf(world, clientId);
      for (const at of [owner, successor, other]) {
        const before = usedAt(world, successor, clientId);
        expect(await ask(world, at, inRequest(clientId))).to.include({ allowed: true, degraded: false });
        expect(usedAt(world, successor, clientId), clientId).to.equal(before + 1);
      }
      const before = usedAt(world, successor, clientId);
      await ask(world, other, plain(clientId));
      expect(usedAt(world, successor, clientId), clientId).to.equal(before);
      await world.run(INTERVAL_MS + 10);
      expect(usedAt(world, successor, clientId), clientId).to.equal(before + 1);
    }
  });

  it('is admitted once though its owner dies the moment that it is answered; others up to an interval again', async () => {
    const admitted = await admittedAround(2, inRequest, {});
    for (const clientId of clients) expect(admitted.get(clientId), clientId).to.equal(LIMIT);
    const without = [...(await admittedAround(2, plain, {})).values()];
    expect(Math.max(...without)).to.equal(2 * LIMIT);
  });

  it('that a policy asks for is as good, from when the policy does and until it does not any more', async () => {
    const named = (clientId: string): object => ({ clientId, policy: 'api' });
    const text = { limit: LIMIT, window: '1h' };
    const replicated = { ...text, durability: 'replicated' };
    const asking = await admittedAround(3, named, {
      before: async (world) => {
        await put(world, text);
        await put(world, replicated);
      },
    });
    for (const clientId of clients) expect(asking.get(clientId), clientId).to.equal(LIMIT);
    const notAsking = await admittedAround(3, named, {
      before: async (world) => {
        await put(world, replicated);
        await put(world, { ...text, durability: 'async' });
      },
    });
    expect(Math.max(...notAsking.values())).to.equal(2 * LIMIT);
  });

  it('changes with the policy of a running bucket', async () => {
    const world = await startCluster(4, 3);
    const { successor, other } = placesOf(world, 'x');
    const text = { limit: LIMIT, window: '1h' };
    let known = 0;
    for (const durability of ['async', 'replicated', 'async', 'replicated']) {
      await put(world, { ...text, durability });
      await world.run(INTERVAL_MS + 50);
      known = usedAt(world, successor, 'x');
      await ask(world, other, { clientId: 'x', policy: 'api' });
      expect(usedAt(world, successor, 'x') - known, durability).to.equal(durability === 'replicated' ? 1 : 0);
    }
  });

  it('is repeated under its request id only once a successor has it', async () => {
    const world = await startCluster(5, 3);
    for (const clientId of clients) {
      const { owner, successor, other } = placesOf(world, clientId);
      const again = { ...inRequest(clientId), requestId: 'r' };
      world.setLink((from, to) => (from === owner && to === successor ? 50 : 3));
      const first = decideAlone(world.node(owner).cluster.checks, read(world, owner, again));
      // While the first waits.
      const second = await ask(world, other, again);
      expect(second.allowed).to.equal(true);
      expect(usedAt(world, successor, clientId), clientId).to.equal(1);
      expect((await first).remaining).to.equal(second.remaining);
    }
  });

  it('may be spent from a lease, which successors know of: nothing passes twice, whoever dies', async () => {
    const limit = 1_000;
    for (const [seed, dies] of [
      [6, 'owner'],
      [7, 'holder'],
    ] as const) {
      const world = await startCluster(seed, 4);
      const { owner, other } = placesOf(world, 'x');
      const request = { ...inRequest('x'), limit };
      const startMs = world.nowMs;
      let admitted = 0;
      let leased = 0;
      for (let i = 0; i < 300; i += 1) {
        const { allowed, source } = await ask(world, other, request);
        if (allowed) admitted += 1;
        if (source === 'lease') leased += 1;
      }
      expect(leased, dies).to.be.above(50);
      world.kill(dies === 'owner' ? owner : other);
      const at = IDS.find((id) => id !== owner && id !== other)!;
      await world.run(2_000);
      while ((await ask(world, at, request)).allowed) admitted += 1;
      expect(admitted, dies).to.be.at.most(limit + (limit * (world.nowMs - startMs)) / 3_600_000);
      expect(admitted, dies).to.be.above(limit * 0.7);
    }
  });

  it('that is denied is remembered as ever, and denied by who follows its owner', async () => {
    const world = await startCluster(8, 4);
    const theirs = clients.filter((clientId) => placesOf(world, clientId).owner === 'b:1');
    for (const clientId of theirs) {
      const { other } = placesOf(world, clientId);
      await ask(world, other, { ...inRequest(clientId), cost: LIMIT });
      for (const source of ['forwarded', 'deny-cache'])
        expect(await ask(world, other, inRequest(clientId))).to.include({ allowed: false, degraded: false, source });
    }
    world.kill('b:1');
    for (const duringMs of [10, 3_000]) {
      await world.run(duringMs);
      for (const clientId of theirs) {
        expect((await ask(world, 'd:1', inRequest(clientId))).allowed, clientId).to.equal(false);
      }
    }
  });

  it('says that it is degraded where nobody else is there to know of it', async () => {
    const world = await startCluster(9, 1);
    const decision = await ask(world, 'a:1', inRequest('x'));
    expect(decision).to.include({ allowed: true, degraded: true, remaining: LIMIT - 1 });
    expect(await ask(world, 'a:1', plain('x'))).to.include({ allowed: true, degraded: false, remaining: LIMIT - 2 });
  });

  it('says so too, in bounded time, where the successor does not answer, and at once where it is known to be down', async () => {
    const world = await startCluster(10, 3);
    const { owner, successor } = placesOf(world, 'x');
    world.freeze(successor);
    const startMs = world.nowMs;
    expect(await ask(world, owner, inRequest('x'))).to.include({ allowed: true, degraded: true });
    expect(world.nowMs - startMs).to.be.within(500, 1_100);
    world.thaw(successor);
    await world.run(3_000);
    world.kill(successor);
    // A connection that is refused says that it is down.
    await ask(world, owner, inRequest('x'));
    const laterMs = world.nowMs;
    expect(await ask(world, owner, inRequest('x'))).to.include({ allowed: true, degraded: true });
    expect(world.nowMs - laterMs).to.be.at.most(2);
    await world.run(3_000);
    expect(await ask(world, owner, inRequest('x'))).to.include({ allowed: true, degraded: false });
  });

  it('says so within a suspicion time though earlier ones wait for the same successor', async () => {
    const world = await startCluster(7, 3);
    const { owner, successor } = placesOf(world, 'late');
    world.kill(successor, true);
    const { checks: pipeline } = world.node(owner).cluster;
    const tookMs: number[] = [];
    for (const waitMs of [0, 3, 42, 45]) {
      await world.run(waitMs);
      const askedMs = world.nowMs;
      void Promise.resolve(decideAlone(pipeline, read(world, owner, inRequest('late')))).then(({ degraded }) => {
        if (degraded) tookMs.push(world.nowMs - askedMs);
      });
    }
    await world.run(5_000);
    expect(tookMs).to.have.length(4);
    expect(Math.max(...tookMs)).to.be.at.most(1_000);
  });

  it('holds up nothing else: what goes to the same node at once is answered at once', async () => {
    const world = await startCluster(11, 3);
    const { owner, successor, other } = placesOf(world, 'x');
    const together = clients.filter((id) => placesOf(world, id).owner === owner && placesOf(world, id).other === other);
    const slowMs = 300;
    world.setLink((from, to) => (from === owner && to === successor ? slowMs : 3));
    const startMs = world.nowMs;
    const answeredMs = new Map<string, number>();
    const send = (request: (clientId: string) => object, clientId: string): Promise<void> =>
      Promise.resolve(decideAlone(world.node(other).cluster.checks, read(world, other, request(clientId)))).then(
        (decision) => {
          expect(decision).to.include({ allowed: true, source: 'forwarded' });
          answeredMs.set(clientId, world.nowMs - startMs);
        },
      );
    const waiting: Promise<void>[] = [];
    // More than may be under way to one node at once.
    for (let i = 0; i < 4; i += 1) {
      waiting.push(send(inRequest, 'x'));
      await world.run(1);
    }
    for (const clientId of together) if (clientId !== 'x') waiting.push(send(plain, clientId));
    await world.until(Promise.all(waiting), 5_000);
    expect(together.length).to.be.above(2);
    for (const [clientId, ms] of answeredMs) {
      if (clientId === 'x') expect(ms).to.be.at.least(slowMs);
      else expect(ms, clientId).to.be.at.most(15);
    }
  });

  it('take one message for all that one turn asks of a replica, and none is degraded', async () => {
    let messages = 0;
    const world = await startCluster(1, 2, {
      tamper: {
        message(_from, _to, sent) {
          if (sent.body.kind === 'replicate') messages += 1;
          return sent;
        },
      },
    });
    const { owner } = placesOf(world, 'hot');
    const { checks, membership } = world.node(owner).cluster;
    const mine = Array.from({ length: 4_000 }, (_, i) => `client ${i}`)
      .filter((id) => membership.ring().owner(id) === owner)
      .slice(0, 1_000);
    const asked = mine.map((id) => Promise.resolve(decideAlone(checks, read(world, owner, inRequest(id)))));
    const decisions = await world.until(Promise.all(asked), 1_000);
    expect(decisions.filter(({ allowed, degraded }) => allowed && !degraded)).to.have.lengthOf(1_000);
    // The interval's own copies are among them.
    expect(messages).to.be.at.most(3);
  });
});

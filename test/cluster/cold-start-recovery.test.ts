import { expect } from 'chai';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { ColdStartRecovery } from '../../src/node/durability/cold-start-recovery.js';
import { GossipMembership } from '../../src/membership/gossip-membership.js';
import type { ClientSnapshot } from '../../src/state/client.js';
import type { PeerMessage } from '../../src/protocol/messages.js';
import { BucketTable, MARK } from '../../src/state/bucket-table.js';
import { decodeClients } from '../../src/state/client-format.js';
import { Copies } from '../../src/state/copies.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { createWorld, type World } from '../sim/world.js';
import { createFakeStore, type FakeStore } from '../support/fake-store.js';
import { addClient } from '../support/clients.js';
import { checkOf } from './traffic.js';

const IDS = ['a:1', 'b:1', 'c:1'];
const PER_HOUR = ruleOf('token-bucket', 10, 3_600_000, 10, undefined);
const CLIENTS = Array.from({ length: 40 }, (_, i) => `client ${i}`);

interface Cluster {
  readonly world: World;
  readonly stores: ReadonlyMap<string, FakeStore>;
  /** Starts a node with its store. Resolves when it decides. */
  start(id: string): Promise<void>;
  ask(at: string, clientId: string): Promise<Decision>;
  /** Asks once more for each client at a node. @returns how many are allowed */
  askAll(at: string): Promise<number>;
}

function createCluster(seed: number, shared: boolean): Cluster {
  const world = createWorld(seed);
  const common = createFakeStore(() => Math.floor(world.nowMs), { shared });
  const stores = new Map(
    IDS.map((id) => [id, shared ? common : createFakeStore(() => Math.floor(world.nowMs), { shared })] as const),
  );
  const cluster: Cluster = {
    world,
    stores,
    start: (id) => world.spawn(id, { seeds: IDS, store: stores.get(id)! }).cluster.start(),
    ask: (at, clientId) =>
      world.until(
        Promise.resolve(decideAlone(world.node(at).cluster.checkRouter, checkOf(clientId, [PER_HOUR]))),
        20_000,
      ),
    async askAll(at) {
      let allowed = 0;
      for (const clientId of CLIENTS) if ((await cluster.ask(at, clientId)).allowed) allowed += 1;
      return allowed;
    },
  };
  return cluster;
}

/** Starts all nodes, uses up every limit, and waits until the store has it. */
async function createUsedUp(seed: number, shared: boolean): Promise<Cluster> {
  const cluster = createCluster(seed, shared);
  for (const id of IDS) await cluster.world.until(cluster.start(id), 30_000);
  for (let i = 0; i < 10; i += 1) await cluster.askAll(IDS[i % 3]!);
  await cluster.world.run(1_000);
  return cluster;
}

function killAll({ world }: Cluster): void {
  for (const id of IDS) world.kill(id);
}

describe('cold-start recovery', () => {
  for (const shared of [true, false]) {
    const what = shared ? 'one store' : 'a store each';
    it(`lets nodes with ${what} continue from their last state, however far apart they start`, async () => {
      const cluster = await createUsedUp(1, shared);
      killAll(cluster);
      await cluster.world.run(2_000);
      const started = IDS.map((id, i) =>
        cluster.world.run(0).then(async () => {
          await cluster.world.run(i);
          return cluster.start(id);
        }),
      );
      await cluster.world.until(Promise.all(started), 30_000);
      for (const id of IDS) expect(await cluster.askAll(id), id).to.equal(0);
    });
  }

  it('lets nodes with a store each decide only after all are back, from the state of all stores', async () => {
    const cluster = await createUsedUp(2, false);
    killAll(cluster);
    await cluster.world.run(1_000);
    const ready = new Set<string>();
    const starting: Promise<void>[] = [];
    for (const id of IDS) {
      starting.push(cluster.start(id).then(() => void ready.add(id)));
      await cluster.world.run(2_500);
      if (id !== IDS.at(-1)) expect([...ready], `after ${id}`).to.deep.equal([]);
    }
    await cluster.world.until(Promise.all(starting), 5_000);
    for (const id of IDS) expect(await cluster.askAll(id), id).to.equal(0);
  });

  it('lets nodes decide without a missing peer after 10 s', async () => {
    const cluster = await createUsedUp(3, false);
    killAll(cluster);
    await cluster.world.run(1_000);
    const startMs = cluster.world.nowMs;
    const started = ['a:1', 'c:1'].map((id) => cluster.start(id));
    await cluster.world.until(Promise.all(started), 30_000);
    expect(cluster.world.nowMs - startMs).to.be.within(9_900, 14_000);
    const again = await cluster.askAll('a:1');
    expect(again, 'clients of the missing peer start afresh').to.be.within(1, CLIENTS.length - 1);
    // The missing peer comes back, and the stricter state wins.
    await cluster.world.until(cluster.start('b:1'), 30_000);
    await cluster.world.run(1_000);
    for (const id of IDS) expect(await cluster.askAll(id), id).to.equal(0);
  });

  it('does not delay a single node whose peers are up', async () => {
    const cluster = await createUsedUp(4, false);
    cluster.world.kill('b:1');
    await cluster.world.run(3_000);
    const startMs = cluster.world.nowMs;
    await cluster.world.until(cluster.start('b:1'), 30_000);
    expect(cluster.world.nowMs - startMs).to.be.below(3_000);
    for (const id of IDS) expect(await cluster.askAll(id), id).to.equal(0);
  });

  it('does not delay a node that was alone in its ring, even under a new id', async () => {
    const cluster = createCluster(7, false);
    const store = cluster.stores.get('a:1')!;
    await cluster.world.until(cluster.world.spawn('a:1', { store }).cluster.start(), 5_000);
    await cluster.askAll('a:1');
    await cluster.world.run(1_000);
    cluster.world.kill('a:1');
    const startMs = cluster.world.nowMs;
    await cluster.world.until(cluster.world.spawn('z:9', { store }).cluster.start(), 30_000);
    expect(cluster.world.nowMs - startMs).to.be.below(1_000);
    expect((await cluster.ask('z:9', 'client 7')).remaining).to.equal(8);
  });

  it('does not bring back a forgotten client', async () => {
    const cluster = await createUsedUp(5, false);
    await cluster.world.until(cluster.world.node('a:1').cluster.admin.forget('client 7'), 5_000);
    await cluster.world.run(1_000);
    killAll(cluster);
    await cluster.world.run(1_000);
    await cluster.world.until(Promise.all(IDS.map((id) => cluster.start(id))), 30_000);
    expect((await cluster.ask('a:1', 'client 7')).remaining).to.equal(9);
    expect((await cluster.ask('a:1', 'client 8')).allowed).to.equal(false);
  });

  it('is not needed while the store is down: nodes decide, and write their changes once it is back', async () => {
    const cluster = createCluster(6, true);
    for (const id of IDS) await cluster.world.until(cluster.start(id), 30_000);
    const store = cluster.stores.get('a:1')!;
    store.down = true;
    for (let i = 0; i < 10; i += 1) expect(await cluster.askAll(IDS[i % 3]!)).to.equal(CLIENTS.length);
    await cluster.world.run(5_000);
    expect(store.size).to.equal(0);
    store.down = false;
    await cluster.world.run(2_000);
    expect(store.size).to.equal(CLIENTS.length);
  });

  it('sends clients again to a member that has refused them, until it has them', async () => {
    const nowMs = 1_000;
    const clock = { nowMs: () => nowMs };
    const table = new BucketTable({ maxClients: 100 });
    const options = { self: 'a:1', version: '0', suspectAfterMs: 1_000, replicas: 1, maxClients: 100 };
    const hooks = { onRingChange: () => undefined, onConcurrentLeave: () => undefined };
    const membership = new GossipMembership(clock, { ...options, ...hooks });
    const at = { incarnation: 1, beat: 1, version: '0', url: '', silentMs: 0, suspected: false };
    membership.learn([{ id: 'b:1', state: 'active', ...at }]);
    for (const id of CLIENTS) table.mark(addClient(table, id, 3_600_000, nowMs).slot, MARK.actingOwner);
    const sent: (readonly ClientSnapshot[])[] = [];
    const stored = {
      recent: new RecentDecisions(clock, 'a:1', 1e6),
      reservations: new Reservations(clock, { maxBytes: 1e6 }),
    };
    const recovery = new ColdStartRecovery(
      {
        clock,
        timers: { every: () => () => undefined, soon: (action) => action(), sleep: () => Promise.resolve() },
        table,
        copies: new Copies({ clock, table, ...stored, self: 'a:1' }),
        membership,
        writeBehind: { missingPeers: () => [], stopAwaitingPeers: () => undefined },
        log: { info: () => undefined, warn: () => undefined },
        ask(_to, message: PeerMessage) {
          if (message.kind === 'replicate') sent.push(decodeClients(message.clients));
          const body = sent.length === 1 ? { kind: 'not-yet' as const, members: [] } : { kind: 'kept' as const };
          return Promise.resolve({ kind: 'answer' as const, body });
        },
      },
      { suspectAfterMs: 1_000 },
    );
    expect(await recovery.returnToOwners()).to.equal(false);
    expect(await recovery.returnToOwners()).to.equal(true);
    expect(await recovery.returnToOwners()).to.equal(true);
    expect(sent).to.have.lengthOf(2);
    expect(sent[1]).to.have.lengthOf.above(5);
    expect(sent[1]).to.deep.equal(sent[0]);
  });
});

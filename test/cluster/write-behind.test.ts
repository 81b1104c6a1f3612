import { expect } from 'chai';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { Copies } from '../../src/state/copies.js';
import type { Membership } from '../../src/membership/membership.js';
import type { LastingClient, Store, StoreResult } from '../../src/store/store.js';
import type { Timers } from '../../src/lib/system.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import { WriteBehind } from '../../src/node/durability/write-behind.js';
import { addClient } from '../support/clients.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { owing } from '../support/stored.js';
import { loneMembership } from '../support/lone-membership.js';

const DONE: StoreResult = { kind: 'done', left: [], lost: false };
const DOWN: StoreResult = { kind: 'failed', reason: 'down' };
const INTERVAL_MS = 200;
const MAX_WAITING = 20;

interface Bench {
  readonly clock: FakeClock;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly writeBehind: WriteBehind;
  readonly writes: { readonly ids: readonly string[]; readonly forgotten: readonly string[] }[];
  readonly log: string[];
  /** Answers of the store from now on. */
  answer: (ids: readonly string[]) => StoreResult | Promise<StoreResult>;
  /** Lets time pass, and runs all ticks and what follows from them. */
  pass(ms: number): Promise<void>;
  /** Changes a client that owes something for an hour, and adds it to the table if needed. */
  change(id: string): Client;
}

function createBench({
  shared = true,
  maxClients = 100,
  maxWaiting = MAX_WAITING,
  stored = [] as LastingClient[][],
} = {}): Bench {
  const clock = createFakeClock(1_000);
  const table = new BucketTable({ maxClients });
  const membership = loneMembership(clock);
  membership.declare('active');
  const ticks = new Map<() => void, { everyMs: number; atMs: number }>();
  const sleepers: { atMs: number; wake: () => void }[] = [];
  const timers: Timers = {
    every(everyMs, tick) {
      ticks.set(tick, { everyMs, atMs: clock.nowMs() + everyMs });
      return () => ticks.delete(tick);
    },
    soon: (action) => action(),
    sleep: (ms) => new Promise((wake) => sleepers.push({ atMs: clock.nowMs() + ms, wake })),
  };
  const writes: Bench['writes'] = [];
  const log: string[] = [];
  const store: Store = {
    shared,
    async load(keep) {
      const result = await bench.answer([]);
      if (result.kind === 'done') for (const chunk of stored) if (!keep(chunk)) break;
      return result;
    },
    async write(clients, forgotten) {
      const ids = clients.map(([id]) => id);
      const result = await bench.answer(ids);
      if (result.kind === 'done') writes.push({ ids: ids.filter((id) => !result.left.includes(id)), forgotten });
      return result;
    },
    members: () => [],
    unreadable: () => 0,
    close: () => Promise.resolve(),
  };
  const recent = new RecentDecisions(clock, 'a:1', 1e6);
  const copies = new Copies({
    ...{ clock, table, recent, self: 'a:1' },
    reservations: new Reservations(clock, { maxBytes: 1e6 }),
  });
  const write = (_: object, message: string): void => void log.push(message);
  const writeBehind = new WriteBehind(
    { clock, timers, table, copies, membership, store, log: { info: write, warn: write } },
    { storeIntervalMs: INTERVAL_MS, maxClients, maxWaiting },
  );
  const bench: Bench = {
    clock,
    table,
    membership,
    writeBehind,
    writes,
    log,
    answer: () => DONE,
    async pass(ms) {
      for (let i = 0; i < ms; i += 10) {
        clock.advance(10);
        for (const [tick, timer] of [...ticks]) {
          if (timer.atMs > clock.nowMs()) continue;
          timer.atMs = clock.nowMs() + timer.everyMs;
          tick();
        }
        for (const sleeper of sleepers.splice(0)) {
          if (sleeper.atMs <= clock.nowMs()) sleeper.wake();
          else sleepers.push(sleeper);
        }
        for (let j = 0; j < 20; j += 1) await Promise.resolve();
      }
    },
    change(id) {
      const client = table.openKnown(id) ?? addClient(table, id, 3_600_000, clock.nowMs());
      writeBehind.changed(client);
      return client;
    },
  };
  return bench;
}

const idsOf = ({ writes }: Bench): string[] => writes.flatMap(({ ids }) => ids);
const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `client ${i}`);

describe('write-behind', () => {
  it('writes a changed client once, within the interval', async () => {
    const bench = createBench();
    bench.change('alice');
    bench.change('alice');
    bench.change('bob');
    expect(bench.writes).to.deep.equal([]);
    await bench.pass(INTERVAL_MS);
    expect(bench.writes).to.deep.equal([{ ids: ['alice', 'bob'], forgotten: [] }]);
    await bench.pass(10 * INTERVAL_MS);
    expect(bench.writes).to.have.lengthOf(1);
    expect(bench.writeBehind.stats()).to.include({ waiting: 0, lagMs: 0, writtenClients: 2, up: true });
  });

  it('writes a client again that changes during its write', async () => {
    const bench = createBench();
    let finish: (result: StoreResult) => void = () => undefined;
    bench.answer = () => new Promise((resolve) => (finish = resolve));
    bench.change('alice');
    await bench.pass(INTERVAL_MS);
    bench.change('alice');
    bench.answer = () => DONE;
    finish(DONE);
    await bench.pass(2 * INTERVAL_MS);
    expect(idsOf(bench)).to.deep.equal(['alice', 'alice']);
  });

  it('ends each write although clients change all the time', async () => {
    const bench = createBench();
    let calls = 0;
    bench.answer = () => {
      calls += 1;
      bench.change('alice');
      return DONE;
    };
    bench.change('alice');
    await bench.pass(5 * INTERVAL_MS);
    expect(calls).to.be.within(4, 5);
    expect(bench.writeBehind.stats().lagMs).to.be.at.most(INTERVAL_MS);
  });

  it('keeps changes while the store is down, and writes them once it is back', async () => {
    const bench = createBench();
    bench.answer = () => DOWN;
    bench.change('alice');
    await bench.pass(3_000);
    bench.change('bob');
    await bench.pass(3_000);
    expect(bench.writeBehind.stats()).to.include({ up: false, waiting: 2 });
    expect(bench.writeBehind.stats().lagMs).to.be.at.least(6_000);
    expect(bench.writeBehind.stats().failures).to.be.within(5, 7);
    expect(bench.log).to.deep.equal(['the store failed; deciding without it, changes wait']);
    bench.answer = () => DONE;
    await bench.pass(1_500);
    expect(idsOf(bench).sort()).to.deep.equal(['alice', 'bob']);
    expect(bench.writeBehind.stats()).to.include({ up: true, waiting: 0, lagMs: 0 });
    expect(bench.log.at(-1)).to.equal('the store is back');
  });

  it('writes the whole table once the store is back, after more changes than may wait', async () => {
    const bench = createBench();
    bench.answer = () => DOWN;
    for (const id of names(MAX_WAITING + 15)) bench.change(id);
    await bench.pass(2_000);
    expect(bench.writeBehind.stats().waiting).to.be.at.most(MAX_WAITING);
    expect(bench.writeBehind.stats().lagMs).to.be.at.least(2_000);
    bench.answer = () => DONE;
    await bench.pass(3_000);
    expect([...new Set(idsOf(bench))].sort()).to.deep.equal(names(MAX_WAITING + 15).sort());
    expect(bench.writeBehind.stats()).to.include({ up: true, waiting: 0, lagMs: 0, rewrites: 1 });
  });

  it('writes the whole table again after the store has lost its data', async () => {
    const bench = createBench();
    for (const id of names(10)) bench.change(id);
    await bench.pass(INTERVAL_MS);
    bench.answer = () => ({ ...DONE, lost: true });
    bench.change('client 0');
    await bench.pass(INTERVAL_MS);
    bench.answer = () => DONE;
    bench.writes.length = 0;
    await bench.pass(1_000);
    expect([...new Set(idsOf(bench))].sort()).to.deep.equal(names(10).sort());
  });

  it('tries a client again at the next interval if another node was writing near it', async () => {
    const bench = createBench();
    let calls = 0;
    bench.answer = (ids) => ({ ...DONE, left: (calls += 1) < 3 ? ids.filter((id) => id === 'bob') : [] });
    bench.change('alice');
    bench.change('bob');
    await bench.pass(INTERVAL_MS);
    expect(calls).to.equal(1);
    expect(bench.writeBehind.stats().waiting).to.equal(1);
    await bench.pass(3 * INTERVAL_MS);
    expect(idsOf(bench)).to.deep.equal(['alice', 'bob']);
    expect(bench.writeBehind.stats()).to.include({ waiting: 0, writtenClients: 2 });
  });

  it('removes forgotten clients from the store, and tries again after a failure', async () => {
    const bench = createBench();
    bench.answer = () => DOWN;
    bench.writeBehind.forget('alice');
    await bench.pass(INTERVAL_MS);
    bench.answer = () => DONE;
    await bench.pass(1_500);
    expect(bench.writes).to.deep.equal([{ ids: [], forgotten: ['alice'] }]);
  });

  it('writes the clients that this node comes to own when the ring changes', async () => {
    const bench = createBench();
    const at = { incarnation: 1, beat: 1, version: '0', url: '', silentMs: 0, suspected: false };
    bench.membership.learn([{ id: 'b:1', state: 'active', ...at }]);
    bench.writeBehind.ringChanged();
    await bench.pass(1_000);
    for (const id of names(60)) addClient(bench.table, id, 3_600_000, bench.clock.nowMs());
    const theirs = names(60).filter((id) => bench.membership.ring().owner(id) === 'b:1');
    bench.membership.learn([{ id: 'b:1', state: 'left', ...at, beat: 2 }]);
    expect(bench.membership.ring().members).to.deep.equal(['a:1']);
    bench.writeBehind.ringChanged();
    await bench.pass(3_000);
    expect(idsOf(bench).sort()).to.deep.equal(theirs.sort());
  });

  it('writes everything on a flush, which does not wait for a store that is down', async () => {
    const bench = createBench();
    for (const id of names(5)) bench.change(id);
    await bench.writeBehind.flush();
    expect(idsOf(bench)).to.have.lengthOf(5);
    bench.answer = () => DOWN;
    bench.change('alice');
    await bench.writeBehind.flush();
    expect(bench.writeBehind.stats().waiting).to.equal(1);
  });

  it('waits on a flush for the write under way and for the changes since it began', async () => {
    const bench = createBench();
    const answers: ((result: StoreResult) => void)[] = [];
    bench.answer = () => new Promise((resolve) => answers.push(resolve));
    bench.change('alice');
    await bench.pass(INTERVAL_MS);
    let isFlushed = false;
    const flushed = bench.writeBehind.flush().then(() => (isFlushed = true));
    bench.change('bob');
    for (const expected of [['alice'], ['alice', 'bob']]) {
      await bench.pass(INTERVAL_MS);
      expect(isFlushed, `before the answer that makes it ${expected.join()}`).to.equal(false);
      answers.shift()!(DONE);
      await bench.pass(10);
      expect(idsOf(bench)).to.deep.equal(expected);
    }
    await flushed;
  });

  it('waits on a flush for the write under way even if nothing has changed since', async () => {
    const bench = createBench();
    let finish: (result: StoreResult) => void = () => undefined;
    bench.answer = () => new Promise((resolve) => (finish = resolve));
    bench.change('alice');
    await bench.pass(INTERVAL_MS);
    let isFlushed = false;
    const flushed = bench.writeBehind.flush().then(() => (isFlushed = true));
    await bench.pass(INTERVAL_MS);
    expect(isFlushed).to.equal(false);
    finish(DONE);
    await flushed;
    expect(idsOf(bench)).to.deep.equal(['alice']);
  });

  it('ends a write whose other clients are dropped because too many changes wait', async () => {
    const bench = createBench({ maxClients: 6_000, maxWaiting: 2_500 });
    const all = names(5_000);
    for (const id of all.slice(0, 2_500)) bench.change(id);
    let calls = 0;
    bench.answer = () => {
      calls += 1;
      if (calls === 1) for (const id of all.slice(2_500)) bench.change(id);
      return calls < 100 ? DONE : DOWN;
    };
    await bench.pass(2_000);
    expect(calls).to.be.below(20);
    expect(new Set(idsOf(bench)).size).to.equal(5_000);
  });
});

describe('reading the store', () => {
  it('fills the table before the node is ready', async () => {
    const bench = createBench({ stored: [[owing('alice', 500, 3_600_000)], [owing('bob', 5, 3_600_000)]] });
    await bench.writeBehind.load();
    expect(bench.table.size()).to.equal(2);
    expect(bench.writeBehind.stats().loadedClients).to.equal(2);
    expect(bench.table.peek('alice')!.first).to.include({ tokens: 500 });
    expect(bench.table.peek('alice')!.decidedAsActingOwner).to.equal(false);
  });

  it('marks clients from a store of this node’s own, so that their owners learn of them', async () => {
    const bench = createBench({ shared: false, stored: [[owing('alice', 500, 3_600_000)]] });
    await bench.writeBehind.load();
    expect(bench.table.peek('alice')!.decidedAsActingOwner).to.equal(true);
  });

  it('stops at the bound of the table', async () => {
    const stored = names(30).map((id) => [owing(id, 5, 3_600_000)]);
    const bench = createBench({ maxClients: 20, stored });
    await bench.writeBehind.load();
    expect(bench.table.size()).to.equal(20);
    expect(bench.table.unexpiredEvictions()).to.equal(0);
  });

  it('delays the start for 5 s; clients that are read later are merged into what was decided meanwhile', async () => {
    const bench = createBench({ stored: [[owing('alice', 500, 3_600_000)]] });
    bench.answer = () => DOWN;
    let ready = false;
    const loading = bench.writeBehind.load().then(() => (ready = true));
    await bench.pass(4_900);
    expect(ready).to.equal(false);
    await bench.pass(200);
    expect(ready).to.equal(true);
    await loading;
    expect(bench.log.at(-1)).to.equal('starting before the store is read; the rest follows');
    bench.answer = () => DONE;
    await bench.pass(1_500);
    expect(bench.table.peek('alice')!.first).to.include({ tokens: 500 });
  });
});

import { expect } from 'chai';
import { BucketTable } from '../../src/state/bucket-table.js';
import { TableWalk } from '../../src/state/table-walk.js';
import { addClient } from '../support/clients.js';

describe('a walk through the table', () => {
  let ticks: (() => void)[];
  const timers = {
    every(intervalMs: number, tick: () => void): () => void {
      expect(intervalMs).to.equal(20);
      ticks.push(tick);
      return () => void (ticks = ticks.filter((one) => one !== tick));
    },
  };

  beforeEach(() => (ticks = []));

  function createWalk(clients: number) {
    const table = new BucketTable({ maxClients: 10_000 });
    for (let i = 0; i < clients; i += 1) addClient(table, `client ${i}`, 1_000, 0);
    const seen: string[] = [];
    const bench = { table, seen, done: 0, mayGoOn: () => true };
    const visitor = {
      visit: ({ id }: { readonly id: string }) => void seen.push(id),
      mayGoOn: () => bench.mayGoOn(),
      done: () => void (bench.done += 1),
    };
    const walk = new TableWalk({ timers: timers as never, table }, visitor);
    return Object.assign(bench, { walk });
  }

  it('visits each client once, from the last to the first, at most 500 in a step, and then ends', () => {
    const bench = createWalk(1_200);
    const { table, walk, seen } = bench;
    walk.start();
    expect(walk.left()).to.equal(1_200);
    const sizes = [];
    while (ticks.length > 0) {
      ticks[0]!();
      sizes.push(seen.length);
    }
    expect(sizes).to.deep.equal([500, 1_000, 1_200]);
    expect(new Set(seen).size).to.equal(1_200);
    expect([seen[0], seen.at(-1)]).to.deep.equal([table.at(1_199)!.id, table.at(0)!.id]);
    expect(bench.done).to.equal(1);
    expect(walk.left()).to.equal(0);
  });

  it('says once that it has ended, also of an empty table, and can begin again', () => {
    const bench = createWalk(1);
    bench.walk.start();
    ticks[0]!();
    expect(bench).to.deep.include({ done: 1, seen: ['client 0'] });
    expect(ticks).to.deep.equal([]);
    bench.table.delete('client 0');
    bench.walk.start();
    ticks[0]!();
    expect(bench.done).to.equal(2);
    expect(ticks).to.deep.equal([]);
  });

  it('waits while it may not go on, and begins anew under the same timer', () => {
    const bench = createWalk(3);
    let allowed = 1;
    bench.mayGoOn = () => (allowed -= 1) >= 0;
    bench.walk.start();
    ticks[0]!();
    expect(bench.walk.left()).to.equal(2);
    ticks[0]!();
    expect(bench).to.deep.include({ done: 0 });
    bench.walk.start();
    expect(ticks).to.have.length(1);
    expect(bench.walk.left()).to.equal(3);
    bench.mayGoOn = () => true;
    ticks[0]!();
    expect(bench.seen).to.deep.equal(['client 2', 'client 2', 'client 1', 'client 0']);
  });

  it('passes over clients that are gone since it began, and stops when it is closed', () => {
    const bench = createWalk(3);
    bench.walk.start();
    bench.table.delete('client 0');
    ticks[0]!();
    expect(bench.seen).to.have.length(2);
    bench.walk.close();
    bench.walk.start();
    bench.walk.close();
    expect(ticks).to.deep.equal([]);
  });
});

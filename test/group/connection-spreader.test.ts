import { expect } from 'chai';
import type { Socket } from 'node:net';
import { ConnectionSpreader } from '../../src/app/group/connection-spreader.js';

interface Fake {
  readonly name: string;
  destroyed: boolean;
}

describe('the connections of the public port', () => {
  let spreader: ConnectionSpreader;
  let handed: { readonly worker: number; readonly number: number; readonly name: string }[];
  let sockets: Fake[];

  beforeEach(() => {
    handed = [];
    sockets = [];
    spreader = new ConnectionSpreader((worker, number, { socket }) =>
      handed.push({ worker, number, name: (socket as unknown as Fake).name }),
    );
  });

  function arrive(count: number): void {
    for (let i = 0; i < count; i += 1) {
      const fake = { name: `connection ${sockets.length}`, destroyed: false, destroy: () => (fake.destroyed = true) };
      sockets.push(fake);
      spreader.add({ socket: fake as unknown as Socket, protocol: 'http' });
    }
  }

  const workersOf = (): number[] => handed.map(({ worker }) => worker);

  it('go to the workers in turn', () => {
    for (const worker of [0, 1, 2]) spreader.joins(worker);
    arrive(6);
    expect(workersOf()).to.deep.equal([0, 1, 2, 0, 1, 2]);
  });

  it('go to the worker with the fewest under way, so that one that hangs gets no more', () => {
    for (const worker of [0, 1]) spreader.joins(worker);
    for (let i = 0; i < 6; i += 1) {
      arrive(1);
      const { worker, number } = handed.at(-1)!;
      if (worker === 1) spreader.taken(worker, number);
    }
    expect(workersOf()).to.deep.equal([0, 1, 1, 1, 1, 1]);
    expect(sockets.map(({ destroyed }) => destroyed)).to.deep.equal([false, true, true, true, true, true]);
  });

  it('go to another worker when one ends that had not taken them, and to none when it had', () => {
    for (const worker of [0, 1]) spreader.joins(worker);
    arrive(4);
    spreader.taken(0, handed[0]!.number);
    spreader.ended(0);
    expect(handed.slice(4)).to.deep.equal([{ worker: 1, number: 5, name: 'connection 2' }]);
  });

  it('wait while no worker takes any, up to a bound', () => {
    arrive(514);
    expect(handed).to.deep.equal([]);
    expect(sockets.filter(({ destroyed }) => destroyed).map(({ name }) => name)).to.deep.equal([
      'connection 512',
      'connection 513',
    ]);
    spreader.joins(0);
    expect(handed).to.have.length(512);
  });

  it('go to another worker when one that leaves returns them, and are closed when none is left', () => {
    for (const worker of [0, 1]) spreader.joins(worker);
    arrive(2);
    spreader.leaves(0);
    spreader.returned(0, handed[0]!.number);
    expect(handed.at(-1)).to.include({ worker: 1, name: 'connection 0' });
    spreader.leaves(1);
    spreader.close();
    expect(sockets.map(({ destroyed }) => destroyed)).to.deep.equal([true, true]);
    spreader.returned(1, handed[1]!.number);
    arrive(1);
    expect(sockets[2]!.destroyed).to.equal(true);
  });
});

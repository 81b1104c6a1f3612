import { expect } from 'chai';
import { createNode, type Node } from '../../src/index.js';

/** Held at most: a fiftieth of the larger flood. */
const MAX_CLIENTS = 20_000;
const VICTIMS = Array.from({ length: 1_000 }, (_, i) => `exhausted:${i}`);

type Question = Parameters<Node['check']>[0];

describe('a flood of new clients', function () {
  this.timeout(170_000);

  async function flooded(clients: number, asks: (i: number) => Omit<Question, 'clientId'>): Promise<void> {
    const node = await createNode({ maxClients: MAX_CLIENTS });
    // Half of them before the others fill the table, half after.
    const exhaust = async (victims: readonly string[]): Promise<void> => {
      for (const clientId of victims)
        expect(await node.check({ clientId, limit: 10, window: '1d', cost: 10 })).to.include({ allowed: true });
    };
    await exhaust(VICTIMS.slice(0, 500));
    for (let i = 0; i < 2 * MAX_CLIENTS; i += 1) await node.check({ clientId: `early:${i}`, limit: 10, window: '1d' });
    await exhaust(VICTIMS.slice(500));
    for (let i = 0; i < clients; i += 1) {
      const { allowed } = await node.check({ clientId: `new:${i}`, ...asks(i) });
      if (!allowed) expect.fail(`the new client ${i} was denied`);
    }
    const freed: string[] = [];
    for (const clientId of VICTIMS) {
      if ((await node.check({ clientId, limit: 10, window: '1d' })).allowed) freed.push(clientId);
    }
    expect(freed.length, `freed, of ${VICTIMS.length}`).to.equal(0);
    await node.close();
  }

  it('of 1,000,000 frees nobody who is exhausted, in a table of 20,000', async () => {
    await flooded(1_000_000, (i) => ({
      limit: 10,
      window: '1d',
      algorithm: i % 4 === 0 ? 'sliding-window' : 'token-bucket',
    }));
  });

  it('of 100,000 that may ask once each frees nobody who was exhausted before it', async () => {
    await flooded(100_000, () => ({ limit: 1, window: '1d' }));
  });
});

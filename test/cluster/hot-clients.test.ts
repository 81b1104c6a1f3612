import { expect } from 'chai';
import { HotClients } from '../../src/node/leases/hot-clients.js';
import { clientKey, type ClientKey } from '../../src/limits/ring/client-hash.js';

const WINDOW_MS = 250;
const keys = (prefix: string, count: number): ClientKey[] =>
  Array.from({ length: count }, (_, i) => clientKey(`${prefix} ${i}`));

describe('the counts of hot clients', () => {
  it('are exact for the few', () => {
    const hot = new HotClients(WINDOW_MS);
    const few = keys('client', 10);
    for (let i = 1; i <= 300; i += 1) {
      for (const key of few) expect(hot.count(key, i % 200)).to.equal(Math.min(i, 255));
    }
  });

  it('end with the window', () => {
    const hot = new HotClients(WINDOW_MS);
    const [key] = keys('client', 1) as [ClientKey];
    for (let i = 1; i <= 20; i += 1) expect(hot.count(key, 1_000)).to.equal(i);
    expect(hot.count(key, 1_000 + WINDOW_MS)).to.equal(21);
    expect(hot.countedMs(1_000 + WINDOW_MS)).to.equal(WINDOW_MS);
    expect(hot.count(key, 1_001 + WINDOW_MS)).to.equal(1);
    expect(hot.countedMs(1_001 + WINDOW_MS)).to.equal(0);
  });

  it('are halved after 8,192, and then after each 4,096, with the time for which they have been taken', () => {
    const hot = new HotClients(WINDOW_MS);
    const client = clientKey('hot');
    const cold = keys('cold', 10_000);
    for (let i = 1; i <= 101; i += 1) expect(hot.count(client, 1_000)).to.equal(i);
    for (const key of cold.slice(0, 8_091)) hot.count(key, 1_000);
    expect(hot.countedMs(1_100)).to.equal(100);
    expect(hot.count(client, 1_100)).to.equal(51);
    expect(hot.countedMs(1_100)).to.equal(50);
    for (const key of cold.slice(0, 4_094)) hot.count(key, 1_100);
    expect(hot.count(client, 1_100)).to.equal(52);
    expect(hot.countedMs(1_200)).to.equal(150);
    expect(hot.count(client, 1_200)).to.equal(27);
    expect(hot.countedMs(1_200)).to.equal(75);
  });

  it('take no cold client for a hot one, however many come', () => {
    const hot = new HotClients(WINDOW_MS);
    let most = 0;
    for (const key of keys('cold', 200_000)) most = Math.max(most, hot.count(key, 0));
    expect(most).to.be.below(20);
  });

  it('find a client that makes one in a hundred of a flood', () => {
    const hot = new HotClients(WINDOW_MS);
    const client = clientKey('hot');
    let most = 0;
    keys('cold', 50_000).forEach((key, i) => {
      hot.count(key, 0);
      if (i % 100 === 0) most = Math.max(most, hot.count(client, 0));
    });
    expect(most).to.be.above(60);
  });
});

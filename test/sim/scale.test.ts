import { expect } from 'chai';
import { PATIENCE_MS } from './patience.js';
import { BEAT_MS, SUSPECT_AFTER_MS } from './scale-cluster.js';
import { measureBalance, measureScale, type Scale } from './scale-measure.js';

describe('what grows with the number of nodes', function () {
  this.timeout(PATIENCE_MS);

  const NODES = 12;
  let scale: Scale;
  before(async () => {
    scale = await measureScale({ nodes: NODES, clients: 20_000, live: 5_000, decisions: 1_000, joins: true });
  });

  it('is not the load of the fullest of 100 nodes: 1.10 of the mean, over 1,000,000 clients', () => {
    expect(measureBalance({ nodes: 100, clients: 1_000_000 }).fullest).to.be.at.most(1.1);
  });

  it('is not the messages for a decision: one to its owner, one to its successor', () => {
    expect(scale.forwards).to.be.within(0.8, 1);
    expect(scale.copies).to.be.within(0.1, 1);
  });

  it('is neither the number of heartbeats that a node sends nor their size', async () => {
    const larger = await measureScale({ nodes: 4 * NODES, clients: 100, live: 100, decisions: 100, joins: false });
    expect(scale.heartbeats).to.be.within(20, 50);
    expect(larger.heartbeats).to.be.within(20, 50);
    expect(larger.heartbeatBytes).to.be.below(250);
  });

  it('is not the time until all know of a crash', () => {
    expect(scale.firstKnowsMs).to.be.at.least(SUSPECT_AFTER_MS - 2 * BEAT_MS);
    expect(scale.allKnowMs).to.be.at.most(1.5 * SUSPECT_AFTER_MS);
  });

  it('is not what a join moves: the share of one node, and the copies that it holds', () => {
    expect(scale.moved / 20_000).to.be.within(0.8 / (NODES + 1), 1.2 / (NODES + 1));
    // Its clients, and those of which it is the successor, each by the owner and by the holder of the copy.
    expect(scale.joined!.handed / 5_000).to.be.within(3.2 / (NODES + 1), 4.8 / (NODES + 1));
  });
});

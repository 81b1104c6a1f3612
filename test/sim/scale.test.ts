import { expect } from 'chai';
import { BEAT_MS, SUSPECT_AFTER_MS } from './scale-cluster.js';
import { measureBalance, measureScale } from './scale-measure.js';
import type { Scale } from './scale-measure.js';

/** As a member judges silence once a beat, by what it heard up to a beat before the crash. */
const JUDGED_MS = BEAT_MS;

describe('what grows with the number of nodes', () => {
  const NODES = 12;
  let scale: Scale;
  before(async function () {
    this.timeout(60_000);
    scale = await measureScale({ nodes: NODES, clients: 20_000, live: 5_000, decisions: 1_000, joins: true });
  });

  it('is not the load of the fullest of 100 nodes: 1.10 of the mean, over 1,000,000 clients', function () {
    this.timeout(60_000);
    expect(measureBalance({ nodes: 100, clients: 1_000_000 }).fullest).to.be.at.most(1.1);
  });

  it('is not the messages for a decision: one to its owner, one to its successor', () => {
    expect(scale.forwards).to.be.within(0.8, 1);
    expect(scale.copies).to.be.within(0.1, 1);
  });

  it('is the number of heartbeats, by at most five a second to each other node, and not their size', () => {
    expect(scale.heartbeats / (NODES - 1)).to.be.within(2, 5);
    expect(scale.heartbeatBytes).to.be.below(250);
  });

  it('is not the time until all know of a crash: the suspicion time, judged once a beat', () => {
    expect(scale.firstKnowsMs).to.be.at.least(SUSPECT_AFTER_MS - 2 * BEAT_MS);
    expect(scale.allKnowMs).to.be.at.most(SUSPECT_AFTER_MS + JUDGED_MS + 5);
  });

  it('is not what a join moves: the share of one node, and the copies that it holds', () => {
    expect(scale.moved / 20_000).to.be.within(0.8 / (NODES + 1), 1.2 / (NODES + 1));
    // Its clients, and those of which it is the successor, each by the owner and by the holder of the copy.
    expect(scale.joined!.handed / 5_000).to.be.within(3.2 / (NODES + 1), 4.8 / (NODES + 1));
  });
});

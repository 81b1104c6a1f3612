import { expect } from 'chai';
import fc from 'fast-check';
import { availableMemoryMb, memoryBounds, MIN_MEMORY_MB } from '../src/memory-budget.js';

describe('the bounds on memory', () => {
  it('fit into their budget when all are reached at once, with ids and limits of the largest size', () => {
    const property = fc.property(fc.integer({ min: MIN_MEMORY_MB, max: 65_536 }), (memoryMb) => {
      const bounds = memoryBounds(memoryMb);
      const bytes =
        700 * bounds.maxClients +
        2_000 * bounds.maxRecentDecisions +
        2_500 * bounds.maxReservations +
        700 * bounds.maxFallbackClients +
        1_000 * bounds.maxDenials +
        bounds.maxArrivingBytes +
        bounds.maxUnreadBytes +
        16_000 * bounds.maxConnections;
      expect(bytes).to.be.at.most((memoryMb - 128) * 1024 * 1024 * 0.82);
      expect(Math.min(...(Object.values(bounds) as number[]))).to.be.above(100);
    });
    fc.assert(property);
  });

  it('grow with the budget, and stop where more would help nobody', () => {
    expect(memoryBounds(512)).to.deep.equal({
      maxClients: 230_087,
      maxRecentDecisions: 16_106,
      maxReservations: 12_884,
      maxFallbackClients: 23_008,
      maxDenials: 4_026,
      maxArrivingBytes: 24_159_191,
      maxUnreadBytes: 24_159_191,
      maxConnections: 2_013,
    });
    expect(memoryBounds(65_536)).to.include({ maxReservations: 100_000, maxArrivingBytes: 67_108_864 });
  });

  it('come from the container or the heap where no budget is set', () => {
    expect(availableMemoryMb()).to.be.within(16, 2 ** 30);
  });
});

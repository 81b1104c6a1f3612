import { expect } from 'chai';
import fc from 'fast-check';
import { spawnSync } from 'node:child_process';
import { policyHeapBytes } from '../src/policy/policy-document.js';
import {
  availableMemoryMb,
  heapLimitMb,
  heapOptions,
  memoryBounds,
  MIN_MEMORY_MB,
  nodeMemoryMb,
} from '../src/app/settings/memory-budget.js';

const MIB = 1024 * 1024;

describe('the bounds on memory', () => {
  it('fit into their budget when all are reached at once, on the heap and outside it', () => {
    const memory = fc.integer({ min: MIN_MEMORY_MB, max: 65_536 });
    const property = fc.property(memory, fc.double({ min: 0.25, max: 1, noNaN: true }), (memoryMb, heapPart) => {
      const heapMb = memoryMb * heapPart;
      const bounds = memoryBounds(memoryMb, heapMb);
      const { state } = bounds;
      const onHeap =
        state.maxClientHeapBytes +
        state.maxRecentBytes +
        state.maxReservationBytes +
        state.maxFallbackBytes +
        state.maxDenialBytes +
        state.maxAnswerBytes +
        state.maxWaitingCheckBytes +
        // An entry takes at least 40 bytes.
        policyHeapBytes(state.maxPolicyBytes, Math.min(20_000, state.maxPolicyBytes / 40)) +
        bounds.maxWaitingBytes;
      const outside =
        state.maxRecordBytes +
        state.maxFallbackBytes +
        bounds.maxArrivingBytes +
        bounds.maxOtherArrivingBytes +
        bounds.maxUnreadBytes +
        24_000 * bounds.maxConnections;
      const heap = Math.min(heapMb, memoryMb / 2);
      expect(onHeap).to.be.at.most((heap - 40) * 0.6 * MIB);
      expect(outside).to.be.at.most((memoryMb - heap - 72) * 0.77 * MIB);
      const others = [
        bounds.maxArrivingBytes,
        bounds.maxOtherArrivingBytes,
        bounds.maxUnreadBytes,
        bounds.maxWaitingBytes,
        bounds.maxConnections,
      ];
      const all = [...(Object.values(state) as number[]), ...others];
      expect(Math.min(...all)).to.be.above(50);
    });
    fc.assert(property);
  });

  it('grow with the budget, and stop where more would help nobody', () => {
    const small = memoryBounds(512, 259);
    expect(small.maxConnections).to.equal(1_125);
    expect(small.state.maxRecordBytes / MIB).to.be.closeTo(73.6, 1);
    expect(small.state.maxReservationBytes / MIB).to.be.closeTo(19.4, 0.1);
    expect(small.state.maxPolicyBytes / MIB).to.be.closeTo(2, 0.1);
    expect(memoryBounds(4_096, 2_048).state.maxPolicyBytes / MIB).to.equal(7);
    expect(memoryBounds(65_536, 4_144)).to.include({ maxArrivingBytes: 64 * MIB, maxUnreadBytes: 64 * MIB });
  });

  it('are those of each worker, whose heap takes half of its part of what the supervisor leaves', () => {
    expect(nodeMemoryMb(512, 1)).to.equal(512);
    expect(nodeMemoryMb(1_024, 4)).to.equal(240);
    for (const [memoryMb, heapMb, expected] of [
      [240, 515, 120],
      [2_000, 4_144, 1_000],
      [100_000, 4_144, 4_144],
      [50, 515, 96],
    ] as const) {
      const script = "process.stdout.write(String(require('node:v8').getHeapStatistics().heap_size_limit))";
      const { stdout } = spawnSync(process.execPath, [...heapOptions(memoryMb, heapMb), '-e', script]);
      expect(Number(stdout.toString()) / MIB, `${memoryMb} ${heapMb}`).to.be.closeTo(expected, 1);
    }
  });

  it('come from the container or the heap where no budget is set', () => {
    expect(availableMemoryMb()).to.be.within(16, 2 ** 30);
    expect(heapLimitMb()).to.be.within(16, 2 ** 20);
  });
});

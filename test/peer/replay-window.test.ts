import { expect } from 'chai';
import fc from 'fast-check';
import { createReplayWindow, WINDOW } from '../../src/peer/replay-window.js';

describe('replay window', () => {
  it('takes a counter exactly when it was not used and lies less than a window behind the highest', () => {
    const steps = fc.oneof(
      fc.integer({ min: -WINDOW - 3, max: 3 }),
      fc.integer({ min: -40, max: 40 }),
      fc.constantFrom(1, -WINDOW, -WINDOW + 1, -WINDOW - 1, WINDOW - 1, WINDOW, WINDOW + 1, 10 * WINDOW, 1e12),
    );
    fc.assert(
      fc.property(fc.array(steps, { minLength: 1, maxLength: 300 }), (offsets) => {
        const window = createReplayWindow();
        const used = new Set<number>();
        let highest = 0;
        for (const offset of offsets) {
          const counter = Math.max(1, highest + offset);
          let expected = used.has(counter) ? 'used' : 'fresh';
          if (counter <= highest - WINDOW) expected = 'too-old';
          expect(window.use(counter), `${counter} after ${highest}`).to.equal(expected);
          if (expected === 'fresh') used.add(counter);
          highest = Math.max(highest, counter);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes each counter once, in whatever order they come, and never twice', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(Array.from({ length: WINDOW }, (_, i) => i + 1)), (counters) => {
        const window = createReplayWindow();
        for (const counter of counters) expect(window.use(counter)).to.equal('fresh');
        for (const counter of counters) expect(window.use(counter)).to.equal('used');
      }),
      { numRuns: 20 },
    );
  });
});

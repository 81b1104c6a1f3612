import { expect } from 'chai';
import { Backoff } from '../../src/app/group/backoff.js';

describe('before a worker is started again', () => {
  let nowMs = 0;

  /** The delays after runs of these lengths, each of which starts when the delay is over. */
  function delaysAfter(runsMs: readonly number[]): number[] {
    const backoff = new Backoff(() => nowMs);
    return runsMs.map((runMs) => {
      backoff.begins();
      nowMs += runMs;
      const delayMs = backoff.ended();
      nowMs += delayMs;
      return delayMs;
    });
  }

  it('twice as long is waited each time, from 0.1 s to 30 s', () => {
    const delays = delaysAfter(Array.from({ length: 12 }, () => 500));
    expect(delays).to.deep.equal([100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000]);
  });

  it('0.1 s is waited again where it had lived for a minute', () => {
    expect(delaysAfter([1, 1, 59_999, 60_000, 1])).to.deep.equal([100, 200, 400, 100, 200]);
  });

  it('its life counts from the start of its own process, however long the group has run', () => {
    nowMs = 3_600_000;
    expect(delaysAfter([90_000, 500, 500, 500])).to.deep.equal([100, 200, 400, 800]);
  });
});

import { expect } from 'chai';
import { restartDelayMs } from '../../src/group/backoff.js';

describe('before a worker is started again', () => {
  it('twice as long is waited each time, from 0.1 s to 30 s', () => {
    const delays: number[] = [];
    for (let delayMs = 0; delays.length < 12;) delays.push((delayMs = restartDelayMs(delayMs, 500)));
    expect(delays).to.deep.equal([100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000]);
  });

  it('0.1 s is waited again where it had lived for a minute', () => {
    expect(restartDelayMs(30_000, 59_999)).to.equal(30_000);
    expect(restartDelayMs(30_000, 60_000)).to.equal(100);
  });
});

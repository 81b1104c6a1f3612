import { expect } from 'chai';
import { findEngine } from './engine.js';
import type { Engine } from './engine.js';
import { fillContainers, IMAGE } from './memory.js';

const MEMORY_MB = 512;

describe('containers of 512 MiB', function () {
  this.timeout(120_000);
  const engine = findEngine();
  if ('missing' in engine) {
    it(`(needs Docker: ${engine.missing})`, function () {
      if (process.env['CI'] === 'true') throw new Error(engine.missing);
      this.skip();
    });
    return;
  }
  testMemory(engine);
});

function testMemory(engine: Engine): void {
  const stopNow = (): void => engine.stopNow();

  before(async function () {
    this.timeout(300_000);
    process.once('exit', stopNow);
    await engine.build(IMAGE);
    await engine.start();
  });
  after(async () => {
    await engine.stop();
    process.off('exit', stopNow);
  });

  it('are not killed and go on deciding while everything that nodes hold fills up at once', async () => {
    const { dead, chargedMb, decisions } = await fillContainers(engine, MEMORY_MB, 20);
    expect(dead).to.deep.equal([]);
    for (const mb of chargedMb) expect(mb).to.be.below(MEMORY_MB);
    expect(decisions.answered).to.be.above(0);
    expect(decisions.failed, 'failed decisions').to.be.at.most(decisions.answered / 10);
  });
}

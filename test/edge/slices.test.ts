import { expect } from 'chai';
import { createSlices } from '../../src/edge/slices.js';

/** Slices over a clock that each step moves by 1 ms, and turns that are taken one by one. */
function stage(sliceMs = 5): {
  run: (name: string, steps: number) => Promise<void> | undefined;
  turn: () => void;
  log: string[];
  clock: () => number;
} {
  let nowMs = 0;
  const deferred: (() => void)[] = [];
  const log: string[] = [];
  const slices = createSlices({ nowMs: () => nowMs, defer: (callback) => void deferred.push(callback) }, sliceMs);
  return {
    run(name, steps) {
      let left = steps;
      return slices.run(() => {
        nowMs += 1;
        left -= 1;
        log.push(name);
        return left === 0;
      });
    },
    turn: () => deferred.shift()?.(),
    log,
    clock: () => nowMs,
  };
}

describe('work in slices', () => {
  it('is done at once where it fits a turn', () => {
    const { run, log } = stage();
    expect(run('a', 4)).to.equal(undefined);
    expect(log).to.have.length(4);
  });

  it('takes no more than a slice of one turn, however many batches come in it', async () => {
    const { run, turn, clock } = stage();
    const all = ['a', 'b', 'c', 'd'].map((name) => run(name, 8));
    for (let turns = 0; turns < 10; turns += 1) {
      const beforeMs = clock();
      turn();
      expect(clock() - beforeMs).to.be.at.most(5);
    }
    await Promise.all(all.map((one) => Promise.resolve(one)));
    expect(clock()).to.equal(32);
  });

  it('ends what came first before it begins what came later', async () => {
    const { run, turn, log } = stage();
    const all = [run('a', 8), run('b', 1)];
    for (let turns = 0; turns < 4; turns += 1) turn();
    await Promise.all(all.map((one) => Promise.resolve(one)));
    expect(log.join('')).to.equal('aaaaaaaab');
  });

  it('rejects with what a later step throws, and goes on with the next', async () => {
    let nowMs = 0;
    const deferred: (() => void)[] = [];
    const slices = createSlices({ nowMs: () => (nowMs += 1), defer: (callback) => void deferred.push(callback) }, 3);
    let steps = 0;
    const failing = slices.run(() => {
      steps += 1;
      if (steps === 3) throw new Error('step 3');
      return false;
    });
    const next = slices.run(() => true);
    const outcome = failing?.then(
      () => 'done',
      (error: unknown) => (error as Error).message,
    );
    for (let turns = 0; turns < 4; turns += 1) deferred.shift()?.();
    expect(await outcome).to.equal('step 3');
    await next;
  });
});

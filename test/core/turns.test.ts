import { expect } from 'chai';
import { Turns, type Steps } from '../../src/lib/turns.js';

type Lane = Parameters<Turns['later']>[0];

interface Stage {
  readonly turns: Turns;
  /** Long work, whose steps take 1 ms each. */
  readonly steps: (name: string, count: number, lane?: Lane) => Promise<void> | undefined;
  /** Work of 1 ms. */
  readonly run: (name: string, lane?: Lane) => void;
  /** Ends this turn. */
  readonly turn: () => void;
  /** What was done, in order. */
  readonly log: string[];
  readonly nowMs: () => number;
}

/** A clock that only work moves, and turns that are taken one by one. */
function stage(perTurn: number): Stage {
  let nowMs = 0;
  const deferred: (() => void)[] = [];
  const log: string[] = [];
  const timers = { soon: (callback: () => void): void => void deferred.push(callback) };
  const turns = new Turns({ timers, spent: () => nowMs, perTurn, maxWaiting: 3 });
  const work = (name: string): void => {
    nowMs += 1;
    log.push(name);
  };
  return {
    turns,
    steps(name, count, lane = 'decision') {
      function* working(): Steps<void> {
        for (let i = 0; i < count; i += 1) {
          if (i > 0) yield;
          work(name);
        }
      }
      return turns.runSteps(lane, working());
    },
    run: (name, lane = 'other') => turns.run(lane, () => work(name)),
    turn: () => deferred.shift()?.(),
    log,
    nowMs: () => nowMs,
  };
}

describe('the time of a turn', () => {
  it('is enough for work that fits it', () => {
    const { steps, run, log } = stage(5);
    expect(steps('a', 4)).to.equal(undefined);
    run('b');
    expect(log.join('')).to.equal('aaaab');
  });

  it('has a bound for all work together', () => {
    const { run, turn, nowMs, log } = stage(4);
    for (let i = 0; i < 100; i += 1) run('x', i % 2 === 0 ? 'other' : 'health');
    for (let turns = 0; turns < 40; turns += 1) {
      const beforeMs = nowMs();
      turn();
      // One piece of each lower lane may come behind the end.
      expect(nowMs() - beforeMs).to.be.at.most(5);
    }
    expect(log).to.have.lengthOf(100);
  });

  it('is shared by all batches that come in it', async () => {
    const { steps, turn, nowMs } = stage(5);
    const all = ['a', 'b', 'c', 'd'].map((name) => steps(name, 8));
    for (let turns = 0; turns < 10; turns += 1) {
      const beforeMs = nowMs();
      turn();
      expect(nowMs() - beforeMs).to.be.at.most(5);
    }
    await Promise.all(all.map((one) => Promise.resolve(one)));
    expect(nowMs()).to.equal(32);
  });

  it('goes to decisions first, then to health checks, and to one piece of everything', () => {
    const { run, turn, log } = stage(5);
    for (let i = 0; i < 5; i += 1) run('x');
    log.length = 0;
    for (let i = 0; i < 6; i += 1) run('o');
    for (let i = 0; i < 6; i += 1) run('h', 'health');
    for (let i = 0; i < 6; i += 1) run('d', 'decision');
    turn();
    expect(log.join('')).to.equal('dddddho');
    turn();
    expect(log.join('')).to.equal('dddddhodhhhho');
  });

  it('ends the batch that came first before it begins the next', async () => {
    const { steps, turn, log } = stage(5);
    const all = [steps('a', 8), steps('b', 1)];
    for (let turns = 0; turns < 4; turns += 1) turn();
    await Promise.all(all.map((one) => Promise.resolve(one)));
    expect(log.join('')).to.equal('aaaaaaaab');
  });

  it('goes round among all that is no decision, so that a long piece of work delays no short one', () => {
    const { turns, steps, run, turn, log } = stage(5);
    for (let i = 0; i < 5; i += 1) run('x');
    log.length = 0;
    void steps('l', 6, 'other');
    const again = (left: number): void => {
      log.push('c');
      if (left > 1) turns.later('other', () => again(left - 1));
    };
    turns.later('other', () => again(3));
    run('s');
    turn();
    expect(log.join('')).to.equal('lcslclcl');
  });

  it('is not used beyond its end while other callbacks of the same turn run', () => {
    const { steps, run, turn, log } = stage(5);
    void steps('a', 3);
    void steps('b', 2);
    run('c');
    expect(log.join('')).to.equal('aaabb');
    turn();
    run('d');
    expect(log.join('')).to.equal('aaabbcd');
  });

  it('says when so much waits that more must be refused', () => {
    const { turns, run, turn } = stage(5);
    for (let i = 0; i < 5 + 2; i += 1) run('x');
    expect(turns.isFull()).to.equal(false);
    run('x');
    expect(turns.isFull()).to.equal(true);
    for (let i = 0; i < 10; i += 1) run('h', 'health');
    expect(turns.isFull()).to.equal(true);
    turn();
    expect(turns.isFull()).to.equal(false);
  });

  it('rejects with what a later step throws, and goes on with the next', async () => {
    let nowMs = 0;
    const deferred: (() => void)[] = [];
    const timers = { soon: (callback: () => void): void => void deferred.push(callback) };
    const turns = new Turns({ timers, spent: () => (nowMs += 1), perTurn: 3 });
    function* failingSteps(): Steps<void> {
      yield;
      yield;
      throw new Error('step 3');
    }
    const failing = turns.runSteps('decision', failingSteps());
    let nextIsDone = false;
    function* nextSteps(): Steps<void> {
      yield;
      nextIsDone = true;
    }
    const next = turns.runSteps('decision', nextSteps());
    const outcome = failing?.then(
      () => 'done',
      (error: unknown) => (error as Error).message,
    );
    for (let turn = 0; turn < 6; turn += 1) deferred.shift()?.();
    expect(await outcome).to.equal('step 3');
    await next;
    expect(nextIsDone).to.equal(true);
  });

  it('is counted in any unit, and long work sees how much of it is left', async () => {
    const deferred: (() => void)[] = [];
    let spent = 0;
    const turns = new Turns({
      timers: { soon: (callback) => void deferred.push(callback) },
      spent: () => spent,
      perTurn: 500,
    });
    const log: string[] = [];
    function* working(name: string, count: number): Steps<void> {
      for (let done = 0; done < count;) {
        if (done > 0) yield;
        const part = Math.min(count - done, turns.left());
        done += part;
        spent += part;
        log.push(`${name} ${part}`);
      }
    }
    const turn = (): string[] => {
      deferred.shift()!();
      return log.splice(0);
    };
    expect(turns.runSteps('other', working('first', 300))).to.equal(undefined);
    const all = [turns.runSteps('other', working('large', 1_200)), turns.runSteps('other', working('small', 100))];
    expect(log.splice(0)).to.deep.equal(['first 300', 'large 200']);
    expect(turns.mayWork(), 'while others wait').to.equal(false);
    expect(turn()).to.deep.equal(['large 500']);
    all.push(turns.runSteps('other', working('late', 100)));
    expect(turn()).to.deep.equal(['small 100', 'large 400']);
    expect(turn()).to.deep.equal(['late 100', 'large 100']);
    for (const later of all) await later;
    expect([turns.mayWork(), turns.left()]).to.deep.equal([true, 300]);
  });
});

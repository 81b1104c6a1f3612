import { expect } from 'chai';
import { TokenringError } from '../../src/lib/error.js';
import { Coalescer } from '../../src/server/http/coalescer.js';

describe('answers that callers share', () => {
  let nowMs: number;
  let asked: string[];
  let settle: (() => void)[];
  beforeEach(() => {
    nowMs = 0;
    [asked, settle] = [[], []];
  });
  const ask = (name: string) => (): Promise<string> => {
    asked.push(name);
    const answer = `${name} ${asked.length}`;
    return new Promise((resolve) => settle.push(() => resolve(answer)));
  };

  it('ask once a second, however many callers there are', async () => {
    const answers = new Coalescer<string>(() => nowMs, 1_000);
    const all = Array.from({ length: 200 }, () => answers.get('a', ask('a')));
    settle[0]!();
    expect(new Set(await Promise.all(all))).to.deep.equal(new Set(['a 1']));
    nowMs = 999;
    expect(await answers.get('a', ask('a'))).to.equal('a 1');
    nowMs = 1_000;
    const next = answers.get('a', ask('a'));
    settle[1]!();
    expect(await next).to.equal('a 2');
    expect(asked).to.deep.equal(['a', 'a']);
  });

  it('are not asked again while the first one is pending, however long that takes', async () => {
    const answers = new Coalescer<string>(() => nowMs, 0);
    const first = answers.get('a', ask('a'));
    nowMs = 60_000;
    const second = answers.get('a', ask('a'));
    settle[0]!();
    expect(await first).to.equal(await second);
    void answers.get('a', ask('a'));
    expect(asked).to.deep.equal(['a', 'a']);
  });

  it('do not keep a failure', async () => {
    const answers = new Coalescer<string>(() => nowMs, 1_000);
    const failed = answers.get('a', () => Promise.reject(new Error('gone'))).catch(String);
    expect(await failed).to.equal('Error: gone');
    void answers.get('a', ask('a'));
    expect(asked).to.deep.equal(['a']);
  });

  it('are bounded: more different questions in a second are refused', async () => {
    const answers = new Coalescer<string>(() => nowMs, 1_000);
    const all = Array.from({ length: 32 }, (_, i) => answers.get(String(i), ask(String(i))));
    expect(() => answers.get('x', ask('x')))
      .to.throw(TokenringError)
      .with.property('code', 'overloaded');
    for (const one of settle) one();
    await Promise.all(all);
    nowMs = 1_000;
    void answers.get('x', ask('x'));
    expect(asked).to.have.lengthOf(33);
  });
});

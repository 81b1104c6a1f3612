import { expect } from 'chai';
import { applyKey, MEMBER_COLUMNS, renderTop, type Choice, type Sample } from '../src/cli/top-screen.js';
import type { NodeReport } from '../src/protocol/messages.js';
import { SOURCES } from '../src/limits/decide/decision.js';

const SIZE = { columns: 160, rows: 30 };
const CHOICE: Choice = { sortBy: 'id', span: 'minute', filter: '', typing: undefined, trouble: undefined };

function report(allowed: number, denied: number, more: Partial<NodeReport> = {}): NodeReport {
  const none = Object.fromEntries(SOURCES.map((source) => [source, 0])) as NodeReport['allowed'];
  return {
    allowed: { ...none, owner: allowed },
    denied: { ...none, forwarded: denied },
    problems: 0,
    durations: [],
    busyMs: 0,
    uptimeMs: 1_000,
    memoryBytes: 100 * 2 ** 20,
    memoryBudgetBytes: 0,
    clients: 7,
    replicationLagMs: 0,
    forwardsWaiting: 0,
    ...more,
  };
}

function sample(atMs: number, reports: Readonly<Record<string, NodeReport | undefined>>): Sample {
  return {
    atMs,
    members: Object.entries(reports).map(([id, stats]) => ({ id, state: 'active', ...(stats && { stats }) })),
    top: {
      denied: [
        { clientId: 'alice', count: 12.4, error: 0, source: { node: 12.4, sdk: 0 } },
        { clientId: 'bob', policy: 'free', count: 3, error: 1.2, source: { node: 1, sdk: 2 } },
      ],
      asked: [{ clientId: 'carol', count: 40, error: 0, source: { node: 40, sdk: 0 } }],
      cost: [],
    },
    missing: [],
  };
}

const before = sample(0, { a: report(100, 0), b: report(0, 0) });
const now = sample(2_000, {
  a: report(300, 20, { uptimeMs: 3_000, busyMs: 1_000 }),
  b: report(50, 0, { uptimeMs: 3_000, replicationLagMs: 9 }),
});
const text = (choice: Partial<Choice> = {}, size = SIZE, at = now): string =>
  renderTop(at, before, { ...CHOICE, ...choice }, size).join('\n');

describe('the view of tokenring top', () => {
  it('shows rates for each second, of all members and of each', () => {
    const view = text();
    expect(view).to.match(/^tokenring {2}2 members {2}135 decisions\/s {2}125 allowed {2}10 denied\n/);
    expect(view).to.match(/^a +active +110 +100 +10 +100 +10 +0 +0 +0 +0 ms +50% +100 MiB +7$/m);
    expect(view).to.match(/^b +active +25 +25 +0 .* 9 ms /m);
  });

  it('lists the clients with their policies, errors, and denials by the SDK, side by side or one below the other', () => {
    expect(text()).to.match(/^ {6}12 {2}alice +40 {2}carol$/m);
    expect(text()).to.match(/^ {7}3 \+-1 \(sdk 2\) {2}bob \[free\]$/m);
    const narrow = text({}, { columns: 80, rows: 40 });
    expect(narrow).to.match(/most denied \/ minute\n.*alice\n.*bob.*\n\nasking most/);
  });

  it('sorts members, and filters clients by id and policy', () => {
    const order = (choice: Partial<Choice>): string[] =>
      [...text(choice).matchAll(/^(a|b) +active/gm)].map(([, id]) => id!);
    expect(order({ sortBy: 'rate' })).to.deep.equal(['a', 'b']);
    expect(order({ sortBy: 'lag' })).to.deep.equal(['b', 'a']);
    expect(text({ filter: 'FREE' }))
      .to.include('bob')
      .and.not.include('alice');
  });

  it('shows a member that does not answer, and one that has started again, without rates', () => {
    const view = text({}, SIZE, sample(2_000, { a: undefined, b: report(5, 0, { uptimeMs: 10 }) }));
    expect(view).to.match(/^a +active +0 .*no answer/m);
    expect(view).to.match(/^b +active +0 +0 /m);
  });

  it('says what it lacks, and why it is not newer', () => {
    expect(text({}, SIZE, { ...now, missing: ['c:1'] })).to.include('without the counts of c:1');
    expect(text({ trouble: 'a does not answer' })).to.include('a does not answer');
  });

  it('fits the terminal, and gives it no commands', () => {
    const many = sample(0, Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`node-${i}`, report(i, 0)])));
    const odd = {
      ...many,
      top: {
        ...many.top,
        denied: [{ clientId: `\x1b[2J${'😀'.repeat(64)}`, count: 1, error: 0, source: { node: 1, sdk: 0 } }],
      },
    };
    for (const size of [SIZE, { columns: 40, rows: 12 }, { columns: 20, rows: 5 }]) {
      const lines = renderTop(odd, undefined, CHOICE, size);
      expect(lines.length).to.be.at.most(size.rows);
      for (const line of lines)
        expect(line)
          .to.match(/^[ -~]*$/)
          .and.have.length.at.most(size.columns);
    }
    expect(text({}, SIZE, odd)).to.include('and 90 more members');
  });
});

describe('the keys of tokenring top', () => {
  const press = (...keys: string[]): Choice | 'quit' =>
    keys.reduce<Choice | 'quit'>((choice, key) => (choice === 'quit' ? choice : applyKey(choice, key)), CHOICE);

  it('end it by q or Ctrl-C, also while typing', () => {
    expect(press('q')).to.equal('quit');
    expect(press('/', 'q')).to.include({ typing: 'q' });
    expect(press('/', '\x03')).to.equal('quit');
  });

  it('go through the orders and the spans', () => {
    expect(press('s')).to.include({ sortBy: 'rate' });
    expect(press(...MEMBER_COLUMNS.map(() => 's'))).to.deep.equal(CHOICE);
    expect(press('h')).to.include({ span: 'hour' });
    expect(press('h', 'h')).to.include({ span: 'minute' });
    expect(press('x')).to.equal(CHOICE);
  });

  it('type a filter, correct it, apply it, or leave it', () => {
    expect(press('/', 'a', 'lx', '\x7f', '\r')).to.include({ filter: 'al', typing: undefined });
    expect(press('/', 'a', '\x1b')).to.deep.equal(CHOICE);
    expect(press('/', '\x1b[A')).to.include({ typing: '' });
  });
});

import { expect } from 'chai';
import { NodeEvents, type NodeEvent } from '../../src/server/http/api/node-events.js';

const SILENT = { info: () => undefined, warn: () => undefined };
const textsOf = (events: readonly NodeEvent[]): string[] => events.map(({ text }) => text);

describe('the events of a node', () => {
  let events: NodeEvents;
  beforeEach(() => (events = new NodeEvents(() => 1_000)));

  it('are the lines of its log, which are still logged', () => {
    const lines: string[] = [];
    const log = events.watching({ ...SILENT, warn: (_fields, message) => lines.push(message) });
    log.warn({ reason: 'disk full', waiting: 3 }, 'the store failed');
    log.info({}, 'the store is back');
    expect(lines).to.deep.equal(['the store failed']);
    expect(events.after(0)).to.deep.equal([
      { id: 1_001, atMs: 1_000, level: 'warn', text: 'the store failed: reason "disk full", waiting 3' },
      { id: 1_002, atMs: 1_000, level: 'info', text: 'the store is back' },
    ]);
  });

  it('say who came to the ring and who left it', () => {
    const log = events.watching(SILENT);
    log.info({ members: ['a:1', 'b:1'], checksum: 'x' }, 'the ring changed');
    log.info({ members: ['b:1', 'c:1'], checksum: 'y' }, 'the ring changed');
    expect(textsOf(events.after(1_002))).to.deep.equal(['c:1 joined the ring', 'a:1 left the ring']);
  });

  it('are bounded in number and length', () => {
    for (let i = 1; i <= 500; i += 1) events.note('info', `${i} ${'x'.repeat(1_000)}`);
    const kept = events.after(0);
    expect(kept).to.have.length(200);
    expect(kept.at(-1)!.text)
      .to.match(/^500 x+$/)
      .and.have.length(300);
  });

  it('are resumed after the last one that was seen; one of an earlier process is unknown', () => {
    for (const text of ['a', 'b', 'c']) events.note('info', text);
    expect(textsOf(events.after(1_002))).to.deep.equal(['c']);
    expect(textsOf(events.after(1_003))).to.deep.equal([]);
    for (const earlier of [999, 1_099]) expect(textsOf(events.after(earlier))).to.deep.equal(['a', 'b', 'c']);
  });

  it('reach those who listen until they do not', () => {
    const heard: string[] = [];
    const stop = events.subscribe(({ text }) => heard.push(text));
    events.note('info', 'a');
    stop();
    events.note('info', 'b');
    expect(heard).to.deep.equal(['a']);
  });
});

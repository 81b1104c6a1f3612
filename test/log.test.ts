import { expect } from 'chai';
import { prettyLine } from '../src/app/log.js';

describe('a log line on a terminal', () => {
  const line = (fields: object): string => prettyLine(JSON.stringify({ level: 30, time: 0, node: 'a:1', ...fields }));

  it('is one line of time, level, message and fields', () => {
    expect(line({ msg: 'joined the ring', members: 3 })).to.match(
      /^\d\d:\d\d:\d\d info {2}joined the ring {2}members=3\n$/,
    );
  });

  it('leaves out what was before and after a change, and cuts long values', () => {
    const text = line({
      msg: 'changed',
      audit: true,
      what: 'policies changed',
      before: { a: 1 },
      after: 'x'.repeat(500),
    });
    expect(text).to.match(/ changed {2}what=policies changed\n$/);
    expect(line({ msg: 'm', long: 'x'.repeat(500) }).length).to.be.below(200);
  });

  it('gives no commands to the terminal', () => {
    expect(line({ msg: 'a\u001b[31mb', id: 'c\u009bd\ne' })).to.match(/a\?\[31mb {2}id=c\?d\?e\n$/);
  });
});

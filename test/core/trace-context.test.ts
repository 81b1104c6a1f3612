import { expect } from 'chai';
import { readTraceContext, spanIdsOf } from '../../src/lib/trace-context.js';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

describe('the trace context of a request', () => {
  const valid: [what: string, traceparent: string][] = [
    ['a sampled trace', `00-${TRACE}-${SPAN}-01`],
    ['one that is not sampled', `00-${TRACE}-${SPAN}-00`],
    ['flags that are not known', `00-${TRACE}-${SPAN}-ff`],
  ];
  for (const [what, traceparent] of valid) {
    it(`is passed on as it came: ${what}`, () => {
      expect(readTraceContext(traceparent, 'a=1,b=2')).to.deep.equal({ traceparent, tracestate: 'a=1,b=2' });
    });
  }

  it('has the ids and flags of the caller', () => {
    expect(spanIdsOf(`00-${TRACE}-${SPAN}-01`)).to.deep.equal({ traceId: TRACE, spanId: SPAN, flags: 1 });
  });

  it('is read from a later version as far as version 00 goes', () => {
    for (const later of [`cc-${TRACE}-${SPAN}-01`, `cc-${TRACE}-${SPAN}-01-what-comes`])
      expect(readTraceContext(later)?.traceparent).to.equal(`00-${TRACE}-${SPAN}-01`);
  });

  const invalid: [what: string, traceparent: string | undefined][] = [
    ['none', undefined],
    ['nothing', ''],
    ['a version that may not be', `ff-${TRACE}-${SPAN}-01`],
    ['more than version 00 has', `00-${TRACE}-${SPAN}-01-x`],
    ['text after a later version', `cc-${TRACE}-${SPAN}-01x`],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${SPAN}-01`],
    ['a span id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['upper case', `00-${TRACE.toUpperCase()}-${SPAN}-01`],
    ['a short id', `00-${TRACE.slice(1)}-${SPAN}-01`],
    ['two, joined', `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`],
  ];
  for (const [what, traceparent] of invalid) {
    it(`is none where the caller sent ${what}`, () => expect(readTraceContext(traceparent)).to.equal(undefined));
  }

  it('goes on without a tracestate that is too long, or not printable', () => {
    for (const tracestate of ['x'.repeat(513), 'a=\u00e4', 'a=\n'])
      expect(readTraceContext(`00-${TRACE}-${SPAN}-01`, tracestate)).to.include({ tracestate: '' });
    expect(readTraceContext(`00-${TRACE}-${SPAN}-01`, 'x'.repeat(512))?.tracestate).to.have.length(512);
  });
});

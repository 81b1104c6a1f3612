import { expect } from 'chai';
import { readPlainHead } from '../../src/server/http/plain-head.js';

const FIRST = 'POST /v1/allow HTTP/1.1';
const GOOD = ['Host: x', 'Content-Type: application/json', 'Content-Length: 12'];
const head = (...lines: string[]): string => lines.join('\r\n');

describe('a plain head', () => {
  it('is read for both decision endpoints, in any order and case of its headers', () => {
    expect(readPlainHead(head(FIRST, ...GOOD))).to.deep.equal({
      kind: 'allow',
      bytes: 88,
      bodyBytes: 12,
      host: 'x',
      trace: undefined,
    });
    const batch = head(
      'POST /v1/allow/batch HTTP/1.1',
      'content-length:  0 ',
      'CONTENT-TYPE:application/json',
      'host: x',
    );
    expect(readPlainHead(batch)).to.include({ kind: 'batch', bodyBytes: 0 });
  });

  it('is read for health checks, which have no body', () => {
    const lines = ['Host: x', 'User-Agent: kube-probe/1.30', 'Accept: */*'];
    expect(readPlainHead(head('GET /healthz HTTP/1.1', ...lines))).to.include({ kind: '/healthz', bodyBytes: 0 });
    expect(readPlainHead(head('GET /readyz HTTP/1.1', 'Host: x'))).to.include({ kind: '/readyz', bytes: 33 });
    for (const line of ['Content-Length: 0', 'Content-Type: application/json', 'Transfer-Encoding: chunked', 'Host: y'])
      expect(readPlainHead(head('GET /healthz HTTP/1.1', 'Host: x', line)), line).to.equal(undefined);
    for (const first of ['HEAD /healthz HTTP/1.1', 'GET /healthz?x HTTP/1.1', 'GET /healthz HTTP/1.0', 'GET /healthz'])
      expect(readPlainHead(head(first, 'Host: x')), first).to.equal(undefined);
  });

  it('may have headers that change nothing', () => {
    const lines = ['User-Agent: curl/8.0 (x; y)', 'Accept: */*', 'Connection: Keep-Alive', 'traceparent: 00-1-2-01'];
    expect(readPlainHead(head(FIRST, ...lines, ...GOOD))).to.include({ bodyBytes: 12 });
  });

  it('has the trace that the caller sent, if it is one', () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const traceOf = (...lines: string[]): unknown => readPlainHead(head(FIRST, ...lines, ...GOOD))?.trace;
    expect(traceOf(`Traceparent: ${traceparent}`)).to.deep.equal({ traceparent, tracestate: '' });
    expect(traceOf('tracestate: a=1', `traceparent: ${traceparent}`)).to.deep.equal({ traceparent, tracestate: 'a=1' });
    expect(traceOf('tracestate: a=1')).to.equal(undefined);
    // node:http decides which of several counts.
    expect(readPlainHead(head(FIRST, `traceparent: ${traceparent}`, `traceparent: ${traceparent}`, ...GOOD))).to.equal(
      undefined,
    );
  });

  const others: [what: string, head: string][] = [
    ['another address', head('POST /v1/allow?x HTTP/1.1', ...GOOD)],
    ['another method', head('GET /v1/allow HTTP/1.1', ...GOOD)],
    ['another version', head('POST /v1/allow HTTP/1.0', ...GOOD)],
    ['a name of the language as first line', head('constructor', ...GOOD)],
    ['no host', head(FIRST, ...GOOD.slice(1))],
    ['two hosts', head(FIRST, 'host: y', ...GOOD)],
    ['no length', head(FIRST, ...GOOD.slice(0, 2))],
    ['two lengths', head(FIRST, 'Content-Length: 12', ...GOOD)],
    ['a length with a sign', head(FIRST, 'Content-Length: +12', ...GOOD.slice(0, 2))],
    ['a length with a leading zero', head(FIRST, 'Content-Length: 012', ...GOOD.slice(0, 2))],
    ['a length in hexadecimal', head(FIRST, 'Content-Length: 0xc', ...GOOD.slice(0, 2))],
    ['two values in a length', head(FIRST, 'Content-Length: 12, 12', ...GOOD.slice(0, 2))],
    ['a body above the bound', head(FIRST, 'Content-Length: 65537', ...GOOD.slice(0, 2))],
    ['no type', head(FIRST, 'Host: x', 'Content-Length: 12')],
    ['another type', head(FIRST, 'Content-Type: text/plain', 'Host: x', 'Content-Length: 12')],
    [
      'a type with a parameter',
      head(FIRST, 'Content-Type: application/json; charset=utf-8', 'Host: x', 'Content-Length: 12'),
    ],
    ['chunks', head(FIRST, 'Transfer-Encoding: chunked', ...GOOD)],
    ['a content encoding', head(FIRST, 'Content-Encoding: identity', ...GOOD)],
    ['a token', head(FIRST, 'Authorization: Bearer x', ...GOOD)],
    ['an expectation', head(FIRST, 'Expect: 100-continue', ...GOOD)],
    ['an upgrade', head(FIRST, 'Upgrade: h2c', ...GOOD)],
    ['the end of the connection', head(FIRST, 'Connection: close', ...GOOD)],
    ['a header that nobody knows', head(FIRST, 'X-Other: 1', ...GOOD)],
    ['a folded header', head(FIRST, 'User-Agent: a', ' b', ...GOOD)],
    ['a bare line feed', head(FIRST, 'User-Agent: a\nTransfer-Encoding: chunked', ...GOOD)],
    ['a bare carriage return', head(FIRST, 'User-Agent: a\rb', ...GOOD)],
    ['a NUL', head(FIRST, 'User-Agent: a\0b', ...GOOD)],
    ['a byte beyond ASCII', head(FIRST, 'User-Agent: \xe4', ...GOOD)],
    ['a space before the colon', head(FIRST, 'Content-Length : 12', ...GOOD.slice(0, 2))],
    ['an empty value', head(FIRST, 'Host:', ...GOOD.slice(1))],
    ['no colon', head(FIRST, 'Accept', ...GOOD)],
    ['more than 2 KiB', head(FIRST, `Accept: ${'x'.repeat(2_048)}`, ...GOOD)],
    ['an empty line before it', head('', FIRST, ...GOOD)],
  ];
  for (const [what, text] of others)
    it(`is none with ${what}: node:http judges it`, () => {
      expect(readPlainHead(text)).to.equal(undefined);
    });
});

import { expect } from 'chai';
import { failureOf } from '../../src/protocol/link/connect.js';

function systemError(code: string, syscall = 'connect'): Error {
  return Object.assign(new Error(`${syscall} ${code}`), { code, syscall });
}

/** As node:net makes it of a name with several addresses. */
function several(...errors: Error[]): Error {
  return Object.assign(new AggregateError(errors), { code: (errors[0] as NodeJS.ErrnoException).code });
}

describe('failure of a connection', () => {
  const refused = systemError('ECONNREFUSED');
  const cases: [what: string, error: Error, kind: string][] = [
    ['a refused connect is proof that nobody listens', refused, 'refused'],
    ['so it is when every address of a name refuses', several(refused, refused), 'refused'],
    ['it is none when one of them only cannot be reached', several(refused, systemError('EHOSTUNREACH')), 'broken'],
    ['it is none when one of them has not answered yet', several(refused, systemError('ETIMEDOUT')), 'timeout'],
    ['a refused DNS query is none', systemError('ECONNREFUSED', 'queryA'), 'broken'],
    ['an unreachable host is none', systemError('EHOSTUNREACH'), 'broken'],
    ['an unreachable network is none', systemError('ENETUNREACH'), 'broken'],
    ['a name that is not found is none', systemError('ENOTFOUND', 'getaddrinfo'), 'broken'],
    ['a reset connection is none', systemError('ECONNRESET', 'read'), 'broken'],
    ['a connect that takes too long is a timeout', systemError('UND_ERR_CONNECT_TIMEOUT'), 'timeout'],
    ['so is one that the system gave up', systemError('ETIMEDOUT'), 'timeout'],
  ];
  for (const [what, error, kind] of cases) {
    it(what, () => {
      expect(failureOf(error).kind).to.equal(kind);
    });
  }

  it('comes with its code and words', () => {
    expect(failureOf(systemError('EHOSTUNREACH'))).to.deep.equal({
      kind: 'broken',
      reason: 'EHOSTUNREACH: connect EHOSTUNREACH',
    });
    expect(failureOf(new Error('oh'))).to.deep.equal({ kind: 'broken', reason: 'oh' });
  });
});

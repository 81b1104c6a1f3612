import { expect } from 'chai';
import { failureOf } from '../../src/client/nodes/transport.js';

const coded = (message: string, code: string): Error => Object.assign(new Error(message), { code });

describe('a failure of a connection', () => {
  /** What each runtime throws, and what a client says of it. */
  const failures: [runtime: string, error: unknown, message: string, unconnected: boolean][] = [
    ['undici', coded('connect ECONNREFUSED 127.0.0.1:1', 'ECONNREFUSED'), 'connect ECONNREFUSED 127.0.0.1:1', true],
    ['undici, of a name with two addresses', coded('', 'ECONNREFUSED'), 'ECONNREFUSED', true],
    [
      'fetch of Node.js',
      new TypeError('fetch failed', { cause: coded('connect ECONNREFUSED 127.0.0.1:1', 'ECONNREFUSED') }),
      'connect ECONNREFUSED 127.0.0.1:1',
      true,
    ],
    [
      'Bun',
      coded('Unable to connect. Is the computer able to access the url?', 'ConnectionRefused'),
      'ECONNREFUSED: Unable to connect. Is the computer able to access the url?',
      true,
    ],
    [
      'Deno',
      new TypeError('client error (Connect): tcp connect error: Connection refused (os error 111)'),
      'ECONNREFUSED: client error (Connect): tcp connect error: Connection refused (os error 111)',
      true,
    ],
    ['a browser', new TypeError('Failed to fetch'), 'Failed to fetch', false],
    ['a node that breaks off', coded('read ECONNRESET', 'ECONNRESET'), 'read ECONNRESET', false],
    ['something that is no error', 'odd', 'odd', false],
  ];
  for (const [runtime, error, message, unconnected] of failures) {
    it(`is told by its code where there is one, and by whether there was a connection: ${runtime}`, () => {
      const failure = failureOf(error);
      expect(failure.reason.message).to.equal(message);
      expect(failure.reason.cause).to.equal(error);
      expect(failure.unconnected).to.equal(unconnected);
    });
  }
});

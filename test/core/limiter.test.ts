import { expect } from 'chai';
import type { Decision } from '../../src/core/decide/decision.js';
import { TokenringError } from '../../src/core/error.js';
import { callsBy } from '../../src/core/request/limiter.js';
import type { AllowRequest } from '../../src/core/request/request.js';

/** Calls that allow all but the client `mallory`, and note what they ask. */
function calls() {
  const asked: AllowRequest[] = [];
  const limiter = callsBy((request) => {
    asked.push(request);
    if (request.clientId === '') return Promise.reject(new TokenringError('invalid_request', { field: 'clientId' }));
    return Promise.resolve({ allowed: request.clientId !== 'mallory', remaining: 6 } as Decision);
  });
  return { limiter, asked };
}

describe('the calls of a limiter', () => {
  it('ask by one check, with all that they are given', async () => {
    const { limiter, asked } = calls();
    expect(await limiter.allow('alice', 10, '1m', { cost: 4 })).to.equal(true);
    expect(await limiter.allow('mallory', 10, 500)).to.equal(false);
    expect(await limiter.remaining('alice', 10, '1m', { burst: 20 })).to.equal(6);
    await limiter.reserve({ clientId: 'alice', policy: 'p' });
    expect(asked).to.deep.equal([
      { clientId: 'alice', limit: 10, window: '1m', cost: 4 },
      { clientId: 'mallory', limit: 10, window: 500 },
      { clientId: 'alice', limit: 10, window: '1m', burst: 20, peek: true },
      { clientId: 'alice', policy: 'p', reserve: true },
    ]);
  });

  it('answer many in order, with an error in the place of a request that fails', async () => {
    const { limiter } = calls();
    const [first, second, third] = await limiter.checkMany([
      { clientId: 'alice' },
      { clientId: '' },
      { clientId: 'mallory' },
    ]);
    expect(first).to.include({ allowed: true });
    expect(second).to.be.instanceOf(TokenringError).and.include({ code: 'invalid_request', item: 1 });
    expect(third).to.include({ allowed: false });
  });
});

import { expect } from 'chai';
import { LimiterMethods } from '../../src/limits/request/limiter.js';
import type { AllowRequest } from '../../src/limits/request/request.js';

describe('the calls of a limiter', () => {
  it('let no option replace an argument', async () => {
    const asked: AllowRequest[] = [];
    class Asking extends LimiterMethods {
      check = (request: AllowRequest): Promise<never> => {
        asked.push(request);
        return Promise.reject(new Error('not decided'));
      };
    }
    const { allow, remaining } = new Asking();
    const options = { cost: 2, clientId: 'another', limit: 9, window: '1h', peek: false };
    for (const call of [allow, remaining]) await call('client', 5, '1m', options).catch(() => undefined);
    const given = { clientId: 'client', limit: 5, window: '1m', cost: 2 };
    expect(asked).to.deep.equal([
      { ...given, peek: false },
      { ...given, peek: true },
    ]);
  });
});

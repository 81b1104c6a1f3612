import { expect } from 'chai';
import { change, NO_DOCUMENT } from '../../src/policy/policy-document.js';
import type { EntryValue } from '../../src/policy/policy-entry.js';
import { Turns } from '../../src/lib/turns.js';
import { policyListJson } from '../../src/server/http/api/policy-list.js';

describe('the list of policies', () => {
  const named = (count: number): [string, EntryValue][] =>
    Array.from({ length: count }, (_, i) => [`policy p${String(i).padStart(5, '0')}`, { limit: i, window: '1m' }]);

  it('is what JSON.stringify makes of it, without deleted policies, and with names of the language', async () => {
    const more: [string, EntryValue][] = [
      ['policy __proto__', { limit: 1, window: '1d' }],
      ['policy gone', { limit: 1, window: '1d' }],
      ['tier \u00e9', 'gold'],
      ['envoy edge', []],
      ['default', 'p00001'],
    ];
    const all = change(NO_DOCUMENT, new Map([...named(100).reverse(), ...more]), 'a:1');
    const document = change(all, new Map([['policy gone', null]]), 'a:1');
    const work = new Turns({ timers: { soon: setImmediate }, spent: () => 0, perTurn: 4 });
    const text = String(await policyListJson(document, 'p00001', work));
    const policies = Object.fromEntries(named(100).map(([key, value]) => [key.slice('policy '.length), value]));
    const last = '"__proto__":{"limit":1,"window":"1d"},';
    const expected = JSON.stringify({ default: 'p00001', policies, envoy: { edge: [] }, version: 2 });
    expect(text).to.equal(expected.replace('"policies":{', `"policies":{${last}`));
    const none = await policyListJson(NO_DOCUMENT, undefined, work);
    expect(String(none)).to.equal('{"policies":{},"version":0}');
  });

  it('lets others in between after 4 ms, however many there are', async () => {
    const document = change(NO_DOCUMENT, new Map(named(1_000)), 'a:1');
    // Each look at the clock takes 1 ms.
    let nowMs = 0;
    let turns = 0;
    const work = new Turns({
      timers: {
        soon(next) {
          turns += 1;
          setImmediate(next);
        },
      },
      spent: () => (nowMs += 1),
      perTurn: 4,
    });
    const body = await policyListJson(document, undefined, work);
    expect(Object.keys((JSON.parse(String(body)) as { policies: object }).policies)).to.have.lengthOf(1_000);
    expect(turns).to.be.at.least(4);
  });
});

import { expect } from 'chai';
import fc from 'fast-check';
import { parseJson } from '../../src/server/validate/json.js';
import { TokenringError } from '../../src/lib/error.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, expectProblem, liveNode, newClient, post } from '../support/http.js';

/** The name that parseJson complains about, or that there is none. */
function duplicateIn(text: string): string | undefined {
  try {
    parseJson(Buffer.from(text));
    return undefined;
  } catch (error) {
    expect(error).to.be.instanceOf(TokenringError);
    const { code, field, expected } = error as TokenringError;
    expect({ code, expected }).to.deep.equal({ code: 'invalid_json', expected: 'each name once' });
    return field;
  }
}

describe('JSON from outside', () => {
  const twice: [what: string, text: string, name: string][] = [
    ['side by side', '{"limit":1,"limit":2}', 'limit'],
    ['with the same value', '{"limit":1,"limit":1}', 'limit'],
    ['far apart', '{"limit":1,"a":{"b":[{"c":1}]},"limit":2}', 'limit'],
    ['once of them escaped', String.raw`{"limit":1,"\u006cimit":2}`, 'limit'],
    ['both escaped, each in its way', String.raw`{"a\/b":1,"a\u002fb":2}`, 'a/b'],
    ['in an object within', '{"limits":[{"limit":1,"window":1,"limit":2}]}', 'limit'],
    ['in the second object of a list', '[{"a":1},{"a":1,"a":2}]', 'a'],
    ['as an object of an object', '{"a":{"b":1},"a":{"c":1}}', 'a'],
    ['as __proto__', '{"__proto__":1,"__proto__":2}', '__proto__'],
    ['as the number of a place', '{"0":1,"0":2}', '0'],
    ['with nothing in it', '{"":1,"":2}', ''],
    ['with quotes and backslashes in it', String.raw`{"a\\\"":1,"a\\\"":2}`, 'a\\"'],
    ['with a colon in it', '{"a:b":1,"a:b":2}', 'a:b'],
    ['among white space', '{ "a" : 1 ,\n "a"\t:\r 2 }', 'a'],
    ['beside strings that hide colons', '{"x":":::\\"\\\\","a":1,"a":2}', 'a'],
  ];
  for (const [what, text, name] of twice) {
    it(`is refused for a name given twice ${what}`, () => {
      expect(duplicateIn(text)).to.equal(name);
    });
  }

  const once = [
    '{"a":":"}',
    '{":":1}',
    '{"a":"\\":\\"","b":"{\\"a\\":1,\\"a\\":2}"}',
    '[":",":::",{"a":"x:y"}]',
    '":"',
    '"\\\\"',
    '{"a":{"a":{"a":1}}}',
    '[{"a":1},{"a":1}]',
    '{"a":1,"A":1}',
    '{"__proto__":{"__proto__":1}}',
    '{"constructor":1,"toString":2,"hasOwnProperty":3}',
    '{}',
    '[]',
    '12',
  ];
  for (const text of once) {
    it(`is read as JSON.parse reads it where each name is there once: ${text}`, () => {
      expect(parseJson(Buffer.from(text))).to.deep.equal(JSON.parse(text));
    });
  }

  it('is read for any value, and refused as soon as any one name of it is there twice', () => {
    // No name ends in a backslash: JSON.parse of Node 24.21 may take one that ends in a quote for it.
    const key = fc.constantFrom('a', ':', '"', '\\b', '__proto__', '', '0', 'b:c', '\u2028');
    const { tree } = fc.letrec<{ tree: Json }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom<Json>(1, null, true, ':', '"', '\\', '{"a":1}', 'a\\":'),
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.uniqueArray(fc.tuple(key, tie('tree')), { maxLength: 4, selector: ([name]) => name }).map(objectOf),
      ),
    }));
    const clean = fc.property(tree, (value) => {
      const text = write(value);
      expect(JSON.stringify(parseJson(Buffer.from(text)))).to.equal(JSON.stringify(JSON.parse(text)));
    });
    fc.assert(clean, { numRuns: 1000 });
    const doubled = fc.property(tree, key, tree, fc.nat(), (value, name, other, place) => {
      const object = `{${JSON.stringify(name)}:${write(value)},"x":{},${JSON.stringify(name)}:${write(other)}}`;
      const wrapped = ['@', '[1,@]', '{"y":[@],"z":":"}', '{"z":"\\":","y":{"@":@}}'][place % 4]!;
      expect(duplicateIn(wrapped.replace(/@(?!")/, () => object))).to.equal(name);
    });
    fc.assert(doubled, { numRuns: 1000 });
  });

  it('takes the time of one reading, not of its square', () => {
    const texts = [
      `{"a":"${':'.repeat(500_000)}"}`,
      `{${Array.from({ length: 50_000 }, (_, i) => `"k${i}":1`).join()}}`,
    ];
    const startMs = performance.now();
    for (const text of texts) parseJson(Buffer.from(text));
    expect(performance.now() - startMs).to.be.below(1000);
  });

  describe('over HTTP', () => {
    let node: RunningNode;
    before(async () => {
      node = await liveNode();
    });

    it('is refused, and the name is in the answer', async () => {
      const clientId = newClient();
      const body = String.raw`{"clientId":"${clientId}","limit":1,"window":"1d","\u006cimit":1000}`;
      expectProblem(await post(node, '/v1/allow', body), 'invalid_json', 'limit');
      const nested = `{"clientId":"${clientId}","limits":[{"limit":1,"window":"1d","window":"1h"}]}`;
      expectProblem(await post(node, '/v1/allow', nested), 'invalid_json', 'window');
      expect((await allow(node, { clientId, limit: 1, window: '1d' })).allowed).to.equal(true);
    });

    it('may have colons wherever text may be', async () => {
      const clientId = `${newClient()} {"a":1,"a":2} \\" ::: \u003a`;
      const decision = await allow(node, { clientId, limit: 1, window: '1d', requestId: '::"::' });
      expect(decision.allowed).to.equal(true);
    });
  });

  it('may have a bound of values, which are counted before anything is parsed', () => {
    for (const text of ['{"a":1,"b":{"c":2}}', '[[],[],[],[]]', '[1,2,3,4]', '{"a":[{}'])
      expect(() => parseJson(Buffer.from(text), 2))
        .to.throw(TokenringError)
        .with.property('expected', 'at most 2 values');
    expect(parseJson(Buffer.from('{"a":",,,[{","b":1}'), 2)).to.deep.equal({ a: ',,,[{', b: 1 });
  });
});

type Json = number | string | boolean | null | Json[] | { members: [string, Json][] };

function objectOf(members: [string, Json][]): Json {
  return { members };
}

/** As text, by hand: an object literal could not carry `__proto__`. */
function write(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(write).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${value.members.map(([name, member]) => `${JSON.stringify(name)}: ${write(member)}`).join(' ,')}}`;
}

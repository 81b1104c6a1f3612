import { expect } from 'chai';
import { badField, badValue, misplaced, nearestName, noSuchOption, unknownField } from '../../src/lib/mistake.js';

const KNOWN = ['clientId', 'limit', 'limits', 'window', 'windowMs', 'burst', 'cost', 'peek'];

describe('a mistake', () => {
  it('says what is wrong, where, and what to use instead', () => {
    expect(badValue('window', 'banana', 'whole milliseconds or "250ms"', 'a duration')).to.deep.equal({
      field: 'window',
      expected: 'whole milliseconds or "250ms"',
      detail: 'window: "banana" is not a duration; use whole milliseconds or "250ms"',
    });
    expect(badValue('limits[1].limit', undefined, 'a limit').detail).to.equal(
      'limits[1].limit is missing; use a limit',
    );
    expect(misplaced('windowMs', 'beside window')).to.deep.equal({
      field: 'windowMs',
      expected: 'none beside window',
      detail: 'windowMs is not allowed beside window; remove it',
    });
    expect(badField('token', 'a name of 8 characters')).to.deep.equal({
      field: 'token',
      expected: 'a name of 8 characters',
      detail: 'token is not valid; use a name of 8 characters',
    });
  });

  it('quotes a value briefly, and does not walk into what may be deep', () => {
    const deep: unknown = JSON.parse(`${'['.repeat(9_000)}${']'.repeat(9_000)}`);
    for (const [value, shown] of [
      [1.5, '1.5'],
      [null, 'null'],
      [true, 'true'],
      [7n, '7'],
      ['x'.repeat(40), `"${'x'.repeat(40)}"`],
      ['x'.repeat(41), `"${'x'.repeat(40)}…"`],
      ['a"\n', String.raw`"a\"\n"`],
      [deep, 'a list'],
      [{ a: deep }, 'an object'],
    ] as const)
      expect(badValue('cost', value, 'a number').detail).to.equal(`cost: ${shown} is not valid; use a number`);
  });

  for (const [mistyped, meant] of [
    ['clientid', 'clientId'],
    ['client_id', 'clientId'],
    ['ClientID', 'clientId'],
    ['lmit', 'limit'],
    ['limt', 'limit'],
    ['windw', 'window'],
    ['window_ms', 'windowMs'],
    ['brust', 'burst'],
    ['costs', 'cost'],
  ] as const)
    it(`suggests ${meant} for ${mistyped}`, () => {
      expect(unknownField('', mistyped, KNOWN)).to.deep.equal({
        field: mistyped,
        expected: `"${meant}"`,
        detail: `unknown field "${mistyped}"; did you mean "${meant}"?`,
      });
    });

  it('names the known fields where none is near, and the object that holds the unknown one', () => {
    for (const name of ['extra', '', 'x', '__proto__', 'constructor', 'clientId'.repeat(10_000)]) {
      const { expected, detail } = unknownField('limits[0]', name, ['limit', 'window']);
      expect(expected, name).to.equal('one of limit, window');
      expect(detail, name).to.match(/^limits\[0\]: unknown field "[^]*"; use one of limit, window$/);
      expect(detail.length).to.be.below(120);
    }
  });

  it('of an option suggests the nearest, or names all', () => {
    expect(noSuchOption('--prot', ['--port', '--peers'])).to.equal(
      '--prot: there is no such option; did you mean `--port`?',
    );
    expect(noSuchOption('--zzz', ['--port', '--peers'])).to.equal(
      '--zzz: there is no such option; expected one of --port, --peers',
    );
  });

  it('suggests the first of equally near names, and none of which more than half is wrong', () => {
    expect(nearestName('cosy', ['cost', 'cosh'])).to.equal('cost');
    expect(nearestName('ab', ['xb'])).to.equal('xb');
    expect(nearestName('abc', ['xyc'])).to.equal(undefined);
    expect(nearestName('abcd', ['xycd'])).to.equal('xycd');
    expect(nearestName('abcdef', ['xyzdef'])).to.equal(undefined);
  });
});

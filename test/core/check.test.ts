import { expect } from 'chai';
import {
  asksSame,
  mayRememberDenial,
  mayRepeatDenial,
  mayUseLease,
  WITHOUT_OWNER,
  type Check,
} from '../../src/limits/decide/check.js';
import { checkOf, tokenBucket } from '../support/rules.js';

const PLAIN = checkOf([tokenBucket(10, 1_000)]);
const FIELDS = Object.keys(WITHOUT_OWNER) as (keyof Check)[];

/** The plain check with another value of one field. */
function withOther(field: keyof Check): Check {
  const value = PLAIN[field];
  const other = field === 'rules' ? [tokenBucket(11, 1_000)] : typeof value === 'number' ? value + 1 : true;
  return { ...PLAIN, [field]: typeof value === 'string' || value === undefined ? 'other' : other };
}

/** The fields for whose other values the test does not hold. */
function against(test: (check: Check) => boolean): readonly (keyof Check)[] {
  return FIELDS.filter((field) => !test(withOther(field)));
}

function fieldsWith(...effects: readonly (typeof WITHOUT_OWNER)[keyof Check][]): readonly (keyof Check)[] {
  return FIELDS.filter((field) => effects.includes(WITHOUT_OWNER[field]));
}

describe('a check that is decided without its owner', () => {
  it('is one of the same client under the same rules', () => {
    expect(against((check) => asksSame(PLAIN, check))).to.deep.equal(fieldsWith('question'));
    expect(asksSame(PLAIN, checkOf([{ ...tokenBucket(10, 1_000) }]))).to.equal(true);
  });

  it('is paid from a lease only if it needs nothing else of the owner', () => {
    const left = fieldsWith('owner decides', 'owner allows', 'owner allows, denies once');
    expect(against(mayUseLease)).to.deep.equal(left);
  });

  it('gets a remembered denial unless its request id may have a decision, and a peek leaves none', () => {
    expect(against(mayRepeatDenial)).to.deep.equal(fieldsWith('owner decides'));
    expect(against(mayRememberDenial)).to.have.members(fieldsWith('owner decides', 'owner allows, denies once'));
  });
});

import { readFileSync } from 'node:fs';
import type { Static } from '@sinclair/typebox';
import { expect } from 'chai';
import type { AllowRequest, LimitRequest } from '../../src/core/request.js';
import { AllowRequestSchema } from '../../src/validate/schema.js';
import type { LimitSchema } from '../../src/validate/schema.js';

/** Without `readonly`, which the one has and the other has not. */
type Plain<T> = T extends object ? { -readonly [K in keyof T]: Plain<T[K]> } : T;
type Same<A, B> = [A, B] extends [B, A] ? true : false;

describe('a request', () => {
  it('has the type that its schema checks', () => {
    const same: [Same<Plain<Required<AllowRequest>>, Plain<Required<Static<typeof AllowRequestSchema>>>>] = [true];
    const limits: [Same<Plain<LimitRequest>, Plain<Static<typeof LimitSchema>>>] = [true];
    expect([...same, ...limits]).to.deep.equal([true, true]);
    const source = readFileSync('src/core/request.ts', 'utf8');
    for (const name of Object.keys(AllowRequestSchema.properties)) expect(source).to.include(`readonly ${name}`);
  });
});

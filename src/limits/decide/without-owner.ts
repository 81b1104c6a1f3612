import { sameRules } from '../bucket/rule.js';
import type { Check } from './decide.js';

/**
 * What each field of a check means where another than the owner decides: by leased tokens, or by a denial that a node or
 * the SDK remembers. All of them go by the functions below, and a test holds the functions to this list, so a new field
 * is considered here and nowhere else.
 *
 * - `question`: checks that differ in it ask something else, and neither a lease nor a denial serves both.
 * - `amount`: leases and denials compare the amounts.
 * - `owner decides`: only the owner decides a check that has it.
 * - `owner allows`: only the owner allows a check that has it, and a remembered denial may deny it.
 * - `owner allows, denies once`: the same, and its own denial is not remembered.
 * - `none`: it makes no difference.
 */
export const WITHOUT_OWNER = {
  clientId: 'question',
  // They follow from the client id.
  hashHigh: 'none',
  hashLow: 'none',
  rules: 'question',
  cost: 'amount',
  // A peek does not put its limit in force, so its `retryAfterMs` may be that of an earlier limit.
  peek: 'owner allows, denies once',
  // The owner has the first decision on it. Another request id is a new question.
  requestId: 'owner decides',
  // A denial reserves nothing.
  reservation: 'owner allows',
  // Lent tokens are gone from all copies, and a denial changes none.
  replicated: 'none',
  // The node that received the request applies them to any decision.
  terms: 'none',
  trace: 'none',
} as const satisfies Record<keyof Check, string>;

type FieldsWith<Effect> = {
  [K in keyof Check]: (typeof WITHOUT_OWNER)[K] extends Effect ? K : never;
}[keyof Check];

/** The fields that tell whether two checks ask the same, apart from the amount. */
export type Question = Pick<Check, FieldsWith<'question'>>;

/** The fields on which a remembered denial depends. */
export type DenialParams = Omit<Check, FieldsWith<'owner allows' | 'none'>>;

/** Whether a denial of a check may be remembered. */
export function mayRememberDenial({ peek, requestId }: DenialParams): boolean {
  return !peek && requestId === undefined;
}

/** Whether a remembered denial of the same question may answer a check. */
export function mayRepeatDenial({ requestId }: DenialParams): boolean {
  return requestId === undefined;
}

/** Whether tokens that were leased for the same question may pay for a check. */
export function mayUseLease({ peek, requestId, reservation }: Check): boolean {
  return !peek && requestId === undefined && reservation === undefined;
}

/** Whether a lease or a denial for one check serves the other. */
export function asksSame(a: Question, b: Question): boolean {
  return a.clientId === b.clientId && sameRules(a.rules, b.rules);
}

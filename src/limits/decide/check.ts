import { sameRules, type Rule } from '../bucket/rule.js';
import type { ClientKey } from '../ring/client-hash.js';
import type { TraceContext } from '../../lib/trace-context.js';

/** What a check asks, without its client. Checks that ask the same share it. */
export interface CheckParams {
  /** 1 to 8 rules, each of another bucket. All must allow the check; otherwise no bucket is charged. */
  readonly rules: readonly Rule[];
  /** Whole tokens, 1 to 1e9, taken from each rule's bucket. */
  readonly cost: number;
  /** Whether the check is answered without consuming. */
  readonly peek: boolean;
  /** Whether the answer waits until a replica holds a copy, so that a crash admits nothing twice. */
  readonly replicated: boolean;
  /** Id with which the cost can be settled later. */
  readonly reservation: string | undefined;
  /**
   * The terms of the policy beyond its rules. Only the node that received the request uses them; it does not forward
   * them.
   */
  readonly terms: Terms | undefined;
}

/** A validated question: may this client do this now? */
export interface Check extends ClientKey, CheckParams {
  /** A check with the same id for the same client within 60 s gets the first decision again. */
  readonly requestId: string | undefined;
  /** The trace that the check belongs to. The owner learns it. */
  readonly trace: TraceContext | undefined;
}

/**
 * The way a node decides if neither the owner nor a successor answers: with an equal share of the limit (`local`), by
 * allowing all (`open`), or by denying all (`closed`).
 */
export type FallbackMode = 'local' | 'open' | 'closed';

/** The part of a policy that matters beyond its rules. */
interface PolicyTerms {
  readonly name: string;
  /** Whether the policy is evaluated but not enforced. */
  readonly shadow: boolean;
  /** Overrides the setting of the node, if present. */
  readonly onUnavailable: FallbackMode | undefined;
}

interface Terms {
  /** The policy of the rules. */
  readonly policy: PolicyTerms | undefined;
  /** The list that contains the client, if any. */
  readonly listed: 'allow' | 'deny' | undefined;
}

/** The fields of a check beside its client and rules. */
export type CheckFields = Omit<Check, 'rules' | keyof ClientKey>;

/** Makes a check. All checks are made here, so all objects have one shape. The default cost is 1. */
export function createCheck(
  { clientId, hashHigh, hashLow }: ClientKey,
  rules: readonly Rule[],
  more: Partial<CheckFields> = {},
): Check {
  const { cost = 1, peek = false, requestId, replicated = false, reservation, terms, trace } = more;
  return { clientId, hashHigh, hashLow, rules, cost, peek, requestId, replicated, reservation, terms, trace };
}

/**
 * Returns the parameters of a check, for other clients that ask the same.
 * @returns `undefined` if the parameters depend on the client
 */
export function sharedParams({ rules, cost, peek, replicated, reservation, terms }: Check): CheckParams | undefined {
  if (reservation !== undefined || terms !== undefined) return undefined;
  return { rules, cost, peek, replicated, reservation, terms };
}

/** What a field of a check means where another than the owner decides. */
type Effect =
  /** Checks that differ in it ask something else, and neither a lease nor a denial serves both. */
  | 'question'
  /** Leases and denials compare the amounts. */
  | 'amount'
  /** Only the owner decides a check that has it. */
  | 'owner decides'
  /** Only the owner allows a check that has it, and a remembered denial may deny it. */
  | 'owner allows'
  /** The same, and its own denial is not remembered. */
  | 'owner allows, denies once'
  /** It makes no difference. */
  | 'none';

/**
 * The effect of each field of a check where another than the owner decides: by leased tokens, or by a denial that a node
 * or the SDK remembers. All of them go by the functions below, and a test holds the functions to this list, so a new
 * field is considered here and nowhere else.
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
} as const satisfies Record<keyof Check, Effect>;

type FieldsWith<E extends Effect> = {
  [K in keyof Check]: (typeof WITHOUT_OWNER)[K] extends E ? K : never;
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

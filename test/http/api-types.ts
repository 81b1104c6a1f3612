import type { Static } from '@sinclair/typebox';
import type { LoadReport, AllowRequest, Duration, LimitRequest } from '../../src/limits/request/request.js';
import type { Decision, Settlement } from '../../src/limits/decide/decision.js';
import type { LimitStats } from '../../src/limits/decide/decide.js';
import type { ClientDescription } from '../../src/limits/request/description.js';
import type { HttpErrorCode } from '../../src/lib/error.js';
import type { LimitsText, PolicyText } from '../../src/policy/policy.js';
import type { DenialReport } from '../../src/limits/top-clients.js';
import type { Counted } from '../../src/lib/space-saving.js';
import type { NodeReport } from '../../src/protocol/messages.js';
import type { SettleRequest } from '../../src/server/validate/request.js';
import type * as policies from '../../src/server/validate/policy-schema.js';
import type * as schemas from '../../src/server/validate/schema.js';

/**
 * Proves that the types of the API are those of /openapi.json: the document prints the schemas, and `npm run types`
 * compares each type with its schema. This file has no code.
 */

type Primitive = string | number | boolean | null | undefined;
/** Marks a field that may be absent. */
interface Absent {
  readonly absent: unique symbol;
}

/**
 * A type as JSON carries it: nothing is read-only, and a field that may be undefined may be absent. Each field is there,
 * so that two such types fit each other only if they have the same fields.
 */
type Json<T> = T extends Primitive
  ? T
  : T extends readonly (infer Item)[]
    ? Json<Item>[]
    : { -readonly [K in keyof T]-?: undefined extends T[K] ? Json<Exclude<T[K], undefined>> | Absent : Json<T[K]> };

/** Texts that people write: their durations are any strings until `check-policy.ts` has read them. */
type Written<T> = T extends Duration
  ? string
  : T extends Primitive
    ? T
    : T extends readonly (infer Item)[]
      ? Written<Item>[]
      : { [K in keyof T]: Written<T[K]> };

type Equal<A, B> = [Json<A>, Json<B>] extends [Json<B>, Json<A>] ? true : false;
type Fits<A, B> = Written<A> extends Written<B> ? true : false;
type Schema<Name extends keyof typeof schemas> = (typeof schemas)[Name] extends { static: infer T } ? T : never;
type PolicySchema<Name extends keyof typeof policies> = Static<(typeof policies)[Name]>;

type Proven<Claim extends true> = Claim;
type Refuted<Claim extends false> = Claim;

/** Callers get an error instead of a decision that is `unreserved`. */
type Answered = Omit<Decision, 'unreserved'>;
type Figures = Pick<Decision, 'allowed' | 'limit' | 'remaining' | 'retryAfterMs' | 'resetMs'>;
type MemberStats = Exclude<Schema<'StatsSchema'>['members'][number]['stats'], undefined>;

export type Proofs = [
  Proven<Equal<AllowRequest, Schema<'AllowRequestSchema'>>>,
  Proven<Equal<LimitRequest, Schema<'LimitSchema'>>>,
  Proven<Equal<Answered, Schema<'DecisionSchema'>>>,
  Proven<Equal<LimitStats, Schema<'LimitFiguresSchema'>>>,
  Proven<Equal<Figures, Schema<'GatewayDecisionSchema'>>>,
  Proven<Equal<Omit<SettleRequest, 'clientId'> & { clientId?: string }, Schema<'SettleRequestSchema'>>>,
  Proven<Equal<Settlement & { reservation: string; clientId: string }, Schema<'SettlementSchema'>>>,
  Proven<Equal<HttpErrorCode, Schema<'ProblemSchema'>['code']>>,
  Proven<Equal<ClientDescription, Schema<'ClientSchema'>>>,
  Proven<Equal<Counted, Schema<'TopSchema'>['clients'][number]>>,
  Proven<Equal<DenialReport, Schema<'DenialReportSchema'>>>,
  Proven<Equal<NodeReport, MemberStats>>,
  Proven<Equal<LoadReport, PolicySchema<'LoadReportSchema'>>>,
  // A policy has one limit, several, or tiers. The schema has the fields of all, so the types of policies are narrower.
  Proven<Fits<PolicyText, PolicySchema<'PolicySchema'>>>,
  Proven<Fits<LimitsText, PolicySchema<'OverrideSchema'>>>,
];

/** The comparison notices a field that is added, missing, optional, or of another type. */
export type Refutations = [
  Refuted<Equal<Answered & { more?: string }, Schema<'DecisionSchema'>>>,
  Refuted<Equal<Omit<Answered, 'owner'>, Schema<'DecisionSchema'>>>,
  Refuted<Equal<Omit<Answered, 'owner'> & { owner?: string }, Schema<'DecisionSchema'>>>,
  Refuted<Equal<Omit<Answered, 'source'> & { source: string }, Schema<'DecisionSchema'>>>,
  Refuted<Equal<string, Schema<'ProblemSchema'>['code']>>,
];

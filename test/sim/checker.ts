import { checkAdmission } from './check-admission.js';
import { checkAgreement } from './check-agreement.js';
import { checkAnswers } from './check-answers.js';
import { checkFigures } from './check-figures.js';
import { checkRing } from './check-ring.js';
import { checkIdentity } from './check-identity.js';
import { checkOverload } from './check-overload.js';
import { checkPolicies } from './check-policies.js';
import { checkSettled } from './check-settled.js';
import { excusesOf } from './excuses.js';
import type { History } from './history.js';
import { bucketsOf } from './takes.js';

export const CHECKS = [
  /** No span sees more admitted than the formula, and what the faults justify. */
  'admission',
  /** Nobody is denied without cause. */
  'denial',
  /** `remaining`, `retryAfterMs`, `resetMs` are true, and `degraded` is set only where there was a fault. */
  'truth',
  /** The same request id gets the same decision. */
  'repeat',
  /** In the end all nodes name the same members, owners and successors. */
  'agreement',
  /** In the end owner and successors hold the same. */
  'copies',
  /** Each request is answered, in bounded time. */
  'answered',
  /** Nobody holds a part of a change of the policies, goes by an old one, or loses one; see `check-policies.ts`. */
  'policies',
  /** A reservation is known, and settled once. */
  'settled',
  /** Overload is answered only where there is any, and nobody decides by a fallback what an owner could have decided. */
  'overload',
  /** A second process under the id of another is refused. */
  'identity',
  /** The ring changes for no pause that nobody noticed. */
  'ring',
] as const;
export type CheckName = (typeof CHECKS)[number];

export interface Violation {
  readonly check: CheckName;
  readonly message: string;
}

/** Holds a history of decisions, and the list of faults, against what docs/guarantees.md promises. Knows nothing of the program. */
export function check(history: History): Violation[] {
  const excuses = excusesOf(history);
  const buckets = bucketsOf(history.asked, excuses.firstMs, history.settles);
  return [
    ...[...buckets.values()].flatMap((bucket) => checkAdmission(history, bucket, excuses)),
    ...checkFigures(history, buckets, excuses),
    ...checkAgreement(history),
    ...checkAnswers(history),
    ...checkPolicies(history),
    ...checkSettled(history, buckets, excuses),
    ...checkRing(history),
    ...checkOverload(history),
    ...checkIdentity(history),
  ];
}

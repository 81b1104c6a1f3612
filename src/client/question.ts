import { batchItemId, type AllowRequest, type LimitRequest } from '../limits/request/request.js';
import { MAX_UNIT_BYTES, utf8Bytes } from '../limits/client-id.js';
import { parseDuration } from '../limits/duration.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { NodeRequest } from './nodes/transport.js';
import { inScope, MAX_LIMIT, MAX_WINDOW_MS, ruleOf, type Rule } from '../limits/bucket/rule.js';
import { isWhole } from '../lib/mistake.js';
import { TokenringError } from '../lib/error.js';

/**
 * Returns the rules that a request names, as far as a client knows them. A policy stands for rules that only the nodes
 * know.
 * @returns `undefined` for a request that no node accepts; the node explains why
 */
export function rulesOf(request: AllowRequest): readonly Rule[] | undefined {
  const { limits, limit, policy, scope } = request;
  if (limits === undefined && limit === undefined) return inScope([policyRule(policy)], scope);
  if (policy !== undefined) return undefined;
  const rules: Rule[] = [];
  for (const one of limits ?? [request]) {
    const rule = ruleFrom(one);
    if (rule === undefined) return undefined;
    rules.push(rule);
  }
  return inScope(rules, scope);
}

/**
 * Returns a rule that is equal only for equal names. It differs from the rule of any limit, as a sliding window's
 * capacity is its limit.
 */
function policyRule(policy: string | undefined): Rule {
  return ruleOf('sliding-window', 0, 1, 1, policy);
}

function ruleFrom({
  limit,
  window,
  windowMs,
  burst,
  algorithm = 'token-bucket',
}: Partial<LimitRequest>): Rule | undefined {
  const ms = windowMs ?? (typeof window === 'string' ? parseDuration(window) : window);
  if (!isWhole(limit, 0, MAX_LIMIT) || !isWhole(ms, 1, MAX_WINDOW_MS)) return undefined;
  const capacity = burst ?? limit;
  return isWhole(capacity, 0, MAX_LIMIT) ? ruleOf(algorithm, limit, ms, capacity, undefined) : undefined;
}

/** Writes a check as JSON. @throws TokenringError `invalid_request` for a value that is not a JSON object */
export function jsonOf(request: AllowRequest): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(request);
  } catch (cause) {
    throw invalid('body', 'a value that can be written as JSON', cause);
  }
  // Callers without types may pass any value.
  if (typeof (text as unknown) !== 'string' || !text.startsWith('{')) throw invalid('body', 'an object');
  // JSON has no inherited or hidden field, and a request id goes behind another field.
  if (typeof request.clientId !== 'string' || text === '{}') throw invalid('clientId', 'a string');
  return text;
}

export function invalid(field: string, expected: string, cause?: unknown): TokenringError {
  return new TokenringError('invalid_request', { field, expected }, { cause });
}

/** The outcome of a question. */
export type Outcome<T> =
  | { readonly kind: 'answered'; readonly value: T; readonly by: string }
  /** The question or the token is at fault. Every node would give the same answer. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  /** No node could answer in time. */
  | { readonly kind: 'unanswered'; readonly error: TokenringError };

/** A check that travels in a batch, or a call that travels alone, on its way to an answer. */
export class Question<T = unknown> {
  /** The batch that gave it an id, and its index there. */
  batchId: string | undefined = undefined;
  index = 0;
  /** Addresses asked in this round. */
  tried: string[] | undefined = undefined;
  /** The first address asked in this round. Usually it is the only one, and `tried` is not needed. */
  firstTried: string | undefined = undefined;
  round = 1;
  /** Number of nodes from which an answer may still come. */
  pending = 0;
  /** Time of the next attempt, while `pending` is 0. */
  againAtMs = 0;
  failures: Map<string, Error> | undefined = undefined;
  /** Whether it has its answer or was given up. */
  isSettled = false;

  /**
   * @param owner of the client, if it is known
   * @param sent the check as JSON, or the call; it may be sent more than once
   * @param needsId whether it is a check that consumes and has no request id; it then gets one with its first batch
   * @param read returns `undefined` for a value that is no answer
   * @param done called once. A promise for each check would cost more than its JSON.
   */
  constructor(
    readonly clientId: string,
    readonly owner: NodeId | undefined,
    readonly sent: string | NodeRequest,
    readonly bytes: number,
    readonly needsId: boolean,
    readonly giveUpAtMs: number,
    readonly read: (value: unknown) => T | undefined,
    readonly done: (outcome: Outcome<T>) => void,
  ) {}
}

/** @returns 16 characters with 96 random bits */
export function randomText(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_');
}

const SHORT_UNITS = 1_000;

/** @returns the bytes of a text in UTF-8, exactly if it is long; an upper bound, which is cheap, if it is short */
export function bytesOf(text: string): number {
  return text.length <= SHORT_UNITS ? text.length * MAX_UNIT_BYTES : utf8Bytes(text);
}

/**
 * Writes the body of a batch, and gives ids to the checks that need one. The id of a check stays when the check is sent
 * again, so it is charged once. One id for all checks of a batch costs the nodes much less than one each.
 */
export function writeBatch(questions: readonly Question[], batchId: string): string {
  let list = '';
  for (let index = 0; index < questions.length; index += 1) {
    const question = questions[index]!;
    const text = question.sent as string;
    if (index > 0) list += ',';
    if (question.batchId !== undefined) {
      list += `${text.slice(0, -1)},"requestId":"${batchItemId(question.batchId, question.index)}"}`;
      continue;
    }
    list += text;
    if (!question.needsId) continue;
    question.batchId = batchId;
    question.index = index;
  }
  return `{"requestId":"${batchId}","requests":[${list}]}`;
}

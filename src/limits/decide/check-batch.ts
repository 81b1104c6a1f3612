import { batchItemId } from '../batch-item-id.js';
import { hashClientBytes } from '../ring/client-hash.js';
import { createCheck } from './decide.js';
import type { Asked, Check, Verdict } from './decide.js';
import { decisionBy } from './decision.js';
import type { Decision, Origin } from './decision.js';
import { TokenringError } from '../../lib/error.js';

/** A decision, or why there is none. */
export type Answer = Decision | TokenringError;

/** Returns a decision. @throws TokenringError if there is none */
export function decisionOf(answer: Answer): Decision {
  if (answer instanceof TokenringError) throw answer;
  return answer;
}

/** States of a place. */
const OPEN = 0;
const DENIED = 1;
const ALLOWED = 2;
/** The answer is an object in `answers`. */
const OTHER = 3;

/** `retryAfterMs` in the arrays of a denial that no wait ends. */
const NEVER = -1;
/** 32-bit words and doubles of a place. */
const WORDS = 8;
const DOUBLES = 2;
const NO_BYTES = Buffer.alloc(0);
const hash = new Int32Array(2);

/**
 * The checks of one message and their answers, by place. The usual check is an id in the bytes of the message and what
 * is asked, which many checks share. The usual answer is four numbers and an origin. Both are kept in arrays, so such a
 * check takes no object from its arrival to its answer. The other checks and answers are objects beside the arrays.
 */
export class CheckBatch {
  size = 0;
  /** Whether the answer of any check depends on more than its rules: on the terms of a policy or a reservation. */
  hasTerms = false;
  /** Holds the ids of the checks that are no objects, in ASCII. */
  readonly bytes: Buffer;
  readonly idStart: Int32Array;
  readonly idEnd: Int32Array;
  readonly hashHigh: Int32Array;
  readonly hashLow: Int32Array;
  readonly asked: Asked[] = [];
  /** The request id of the batch. Items without one of their own have one that begins with it. */
  batchId: string | undefined;
  private readonly requestIdStart: Int32Array;
  private readonly requestIdEnd: Int32Array;
  private readonly checks: (Check | undefined)[] = [];
  private readonly states: Uint8Array;
  private readonly limit: Int32Array;
  private readonly remaining: Int32Array;
  private readonly retryAfterMs: Float64Array;
  private readonly resetMs: Float64Array;
  private readonly origins: (Origin | undefined)[] = [];
  private readonly answers: (Answer | undefined)[] = [];

  /** @param capacity largest number of places */
  constructor(capacity: number, bytes: Buffer = NO_BYTES, batchId?: string) {
    this.bytes = bytes;
    this.batchId = batchId;
    const doubles = 8 * DOUBLES * capacity;
    const memory = new ArrayBuffer(doubles + (4 * WORDS + 1) * capacity);
    const words = (n: number): Int32Array => new Int32Array(memory, doubles + 4 * n * capacity, capacity);
    this.retryAfterMs = new Float64Array(memory, 0, capacity);
    this.resetMs = new Float64Array(memory, 8 * capacity, capacity);
    this.hashHigh = words(0);
    this.hashLow = words(1);
    this.idStart = words(2);
    this.idEnd = words(3);
    this.limit = words(4);
    this.remaining = words(5);
    this.requestIdStart = words(6);
    this.requestIdEnd = words(7);
    this.states = new Uint8Array(memory, doubles + 4 * WORDS * capacity, capacity);
  }

  static of(checks: readonly Check[]): CheckBatch {
    const batch = new CheckBatch(checks.length);
    for (const check of checks) batch.add(check);
    return batch;
  }

  /**
   * Adds a check whose id stands in `bytes`, from `start` to before `end`, and that needs no terms.
   * @param requestIdStart where its request id begins; with `requestIdEnd` equal to it there is none
   */
  addBytes(start: number, end: number, asked: Asked, requestIdStart = 0, requestIdEnd = 0): void {
    const place = this.size;
    this.idStart[place] = start;
    this.idEnd[place] = end;
    this.requestIdStart[place] = requestIdStart;
    this.requestIdEnd[place] = requestIdEnd;
    hashClientBytes(this.bytes, start, end, hash);
    this.hashHigh[place] = hash[0]!;
    this.hashLow[place] = hash[1]!;
    this.push(undefined, asked);
  }

  add(check: Check): void {
    const place = this.size;
    this.hashHigh[place] = check.hashHigh;
    this.hashLow[place] = check.hashLow;
    if (check.terms !== undefined || check.reservation !== undefined) this.hasTerms = true;
    this.push(check, check);
  }

  /** Adds a place with its answer, where there is no check. */
  addAnswer(answer: Answer): void {
    this.states[this.size] = OTHER;
    this.push(undefined, NOTHING);
    this.answers[this.size - 1] = answer;
  }

  private push(check: Check | undefined, asked: Asked): void {
    this.checks.push(check);
    this.asked.push(asked);
    this.origins.push(undefined);
    this.answers.push(undefined);
    this.size += 1;
  }

  /** The check at a place as an object. */
  check(place: number): Check {
    return (this.checks[place] ??= this.createCheck(place));
  }

  private createCheck(place: number): Check {
    const asked = this.asked[place]!;
    const key = { clientId: this.clientId(place), hashHigh: this.hashHigh[place]!, hashLow: this.hashLow[place]! };
    const requestId = this.requestId(place);
    return createCheck(key, asked.rules, asked, requestId);
  }

  /** The client id of the check at a place. */
  clientId(place: number): string {
    return this.checks[place]?.clientId ?? this.bytes.toString('latin1', this.idStart[place], this.idEnd[place]);
  }

  /** The request id of the check at a place; `undefined` if it has none. */
  requestId(place: number): string | undefined {
    const check = this.checks[place];
    if (check !== undefined) return check.requestId;
    const start = this.requestIdStart[place]!;
    const end = this.requestIdEnd[place]!;
    if (start !== end) return this.bytes.toString('latin1', start, end);
    return this.isItem(place) ? batchItemId(this.batchId!, place) : undefined;
  }

  /** Whether the check at a place has the request id that the batch gives it. */
  isItem(place: number): boolean {
    if (this.batchId === undefined) return false;
    const check = this.checks[place];
    if (check !== undefined) return check.requestId === batchItemId(this.batchId, place);
    return this.requestIdStart[place] === this.requestIdEnd[place] && !this.asked[place]!.peek;
  }

  /** Whether the check at a place is no object. */
  isInBytes(place: number): boolean {
    return this.checks[place] === undefined;
  }

  /** Length of the id at a place; 0 where there is no check. */
  idBytes(place: number): number {
    return this.checks[place]?.clientId.length ?? this.idEnd[place]! - this.idStart[place]!;
  }

  isAnswered(place: number): boolean {
    return this.states[place] !== OPEN;
  }

  /** Answers a check by a verdict under one limit. The verdict is copied. */
  decide(place: number, verdict: SingleVerdict, origin: Origin): void {
    this.states[place] = verdict.allowed ? ALLOWED : DENIED;
    this.limit[place] = verdict.limit;
    this.remaining[place] = verdict.remaining;
    this.retryAfterMs[place] = verdict.retryAfterMs ?? NEVER;
    this.resetMs[place] = verdict.resetMs;
    this.origins[place] = origin;
  }

  /** Answers a check. A later answer replaces an earlier one. */
  answer(place: number, answer: Answer): void {
    this.states[place] = OTHER;
    this.answers[place] = answer;
  }

  /** The answer at a place as an object. */
  answerAt(place: number): Answer {
    if (this.states[place] === OTHER) return this.answers[place]!;
    const verdict = {
      allowed: this.states[place] === ALLOWED,
      limit: this.limit[place]!,
      remaining: this.remaining[place]!,
      retryAfterMs: this.retryAfterMs[place] === NEVER ? null : this.retryAfterMs[place]!,
      resetMs: this.resetMs[place]!,
    };
    return decisionBy(this.origins[place]!, verdict);
  }

  /** Passes each answer from place `from` to before `to`, in order, to one of two functions. */
  visit(from: number, to: number, plain: VisitPlain, other: (answer: Answer) => void): void {
    for (let place = from; place < to; place += 1) {
      if (this.states[place] === OTHER) other(this.answers[place]!);
      else
        plain(
          this.states[place] === ALLOWED,
          this.limit[place]!,
          this.remaining[place]!,
          this.retryAfterMs[place]!,
          this.resetMs[place]!,
          this.origins[place]!,
        );
    }
  }
}

/** Reads and answers checks by place. */
export type Places = Pick<CheckBatch, 'check' | 'decide' | 'answer' | 'answerAt'>;

/** The place of one check alone, which has no use for arrays. */
export class OnePlace implements Places {
  private given: Answer | undefined;

  constructor(private readonly one: Check) {}

  check(): Check {
    return this.one;
  }

  decide(_place: number, verdict: SingleVerdict, origin: Origin): void {
    this.given = decisionBy(origin, verdict);
  }

  answer(_place: number, given: Answer): void {
    this.given = given;
  }

  /** Valid once it is answered. */
  answerAt(): Answer {
    return this.given!;
  }
}

/** A verdict under one limit. */
type SingleVerdict = Omit<Verdict, 'limits'>;

/** Takes a usual answer. @param retryAfterMs −1 for a denial that no wait ends */
export type VisitPlain = (
  allowed: boolean,
  limit: number,
  remaining: number,
  retryAfterMs: number,
  resetMs: number,
  origin: Origin,
) => void;

const NOTHING: Asked = {
  rules: [],
  cost: 1,
  peek: false,
  replicated: false,
  requestId: undefined,
  reservation: undefined,
  terms: undefined,
  trace: undefined,
};

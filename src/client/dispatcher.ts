import { batchItemId } from '../limits/batch-item-id.js';
import type { Decision } from '../limits/decide/decision.js';
import type { NodeId } from '../limits/ring/ring.js';
import { BatchingQueue, type Batch } from '../lib/batching-queue.js';
import { TokenringError } from '../lib/error.js';
import { MAX_BATCH, MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../limits/request/request.js';
import { fieldsOf, readDecision, readProblem } from './nodes/answers.js';
import type { Cluster } from './nodes/cluster.js';
import { noAnswer } from './nodes/node-health.js';
import type { NodeAnswer } from './nodes/transport.js';
import type { ReadClientOptions } from './options.js';
import { withRequestId } from './question.js';
import type { Time } from './runtime.js';

/** The outcome of a question. */
export type Outcome =
  | { readonly kind: 'decided'; readonly decision: Decision; readonly by: string }
  /** The question or the token is at fault. Every node would give the same answer. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  /** No node could answer in time. */
  | { readonly kind: 'unanswered'; readonly error: TokenringError };

/**
 * When all nodes have failed, they are asked once more after this time. A broken connection does not mean a dead node.
 */
const AGAIN_AFTER_MS = 50;
const ROUNDS = 2;
/** A node that has not answered after this long is overdue: another node is asked as well. */
const OVERDUE_MS = 250;
/** Pause for an overloaded node that sends no `Retry-After`. */
const REST_MS = 1_000;
/** The resolution of all waits here. */
const TICK_MS = 25;
/** Batches under way to one node. Each costs as much as the decisions on dozens of questions. */
const MAX_IN_FLIGHT = 2;
/** Bound of the bytes of `{"requestId":"…","requests":[]}`. Each question adds a comma. */
const FRAME_BYTES = 64;
/** Bound of the bytes of a comma and `,"requestId":"…"`. */
const REQUEST_ID_BYTES = 60;

interface Question {
  readonly clientId: string;
  /** The owner of the client, if it is known. */
  readonly owner: NodeId | undefined;
  /** The question as JSON. */
  readonly text: string;
  readonly bytes: number;
  /** Whether the question consumes and has no request id. It then gets one with its first batch. */
  readonly needsId: boolean;
  /** The batch that gave it an id, and its index there. */
  batchId: string | undefined;
  index: number;
  readonly giveUpAtMs: number;
  /** Addresses asked in this round. */
  tried: string[] | undefined;
  /** The first address asked in this round. Usually it is the only one, and `tried` is not needed. */
  firstTried: string | undefined;
  round: number;
  /** Number of nodes from which an answer may still come. */
  pending: number;
  /** Time of the next attempt, while `pending` is 0. */
  againAtMs: number;
  failures: Map<string, Error> | undefined;
  /** Whether the question has its answer or was given up. */
  isSettled: boolean;
  readonly done: (outcome: Outcome) => void;
}

/** Sends each question to the best node, in batches, and to another node when that fails. */
export class QuestionDispatcher {
  private readonly queue: BatchingQueue<Question>;
  /** In the order of their deadlines. */
  private readonly waiting = new Set<Question>();
  private stopTicking: (() => void) | undefined;
  private becameIdle: (() => void)[] = [];
  private idPrefix = '';
  private ids = 0;
  private readonly timeoutMs: number;
  private readonly maxWaiting: number;

  constructor(
    private readonly cluster: Cluster,
    private readonly time: Time,
    { timeoutMs, maxWaiting }: Pick<ReadClientOptions, 'timeoutMs' | 'maxWaiting'>,
  ) {
    this.timeoutMs = timeoutMs;
    this.maxWaiting = maxWaiting;
    this.queue = new BatchingQueue({
      clock: time,
      timers: time,
      send: (batch) => void this.sendBatch(batch),
      maxInFlight: MAX_IN_FLIGHT,
      coalesces: true,
      maxItems: MAX_BATCH,
      maxSize: MAX_BATCH_BYTES - FRAME_BYTES,
      sizeOf: ({ bytes, batchId }) => bytes + (batchId === undefined ? 1 : REQUEST_ID_BYTES),
      isOver: ({ isSettled }) => isSettled,
    });
  }

  /**
   * @param owner of the client, if it is known
   * @param text the question as JSON; it may be sent more than once
   * @param needsId whether it consumes and has no request id, so that it needs one to be charged once
   * @param done called once, perhaps before this returns. A promise for each question would cost more than its JSON.
   */
  ask(
    clientId: string,
    owner: NodeId | undefined,
    text: string,
    needsId: boolean,
    done: (outcome: Outcome) => void,
  ): void {
    const bytes = bytesOf(text);
    if (bytes > MAX_REQUEST_BYTES) {
      const expected = `at most ${MAX_REQUEST_BYTES} bytes`;
      return done({ kind: 'refused', error: new TokenringError('too_large', { field: 'body', expected }) });
    }
    const refusal = this.cluster.health.refusal();
    if (refusal !== undefined) return done({ kind: 'unanswered', error: refusal });
    if (this.waiting.size >= this.maxWaiting) {
      const detail = `${this.maxWaiting} questions of this client wait for an answer`;
      return done({ kind: 'unanswered', error: new TokenringError('overloaded', { detail }) });
    }
    this.cluster.health.asked();
    const question: Question = {
      clientId,
      owner,
      text,
      bytes,
      needsId,
      batchId: undefined,
      index: 0,
      giveUpAtMs: this.time.nowMs() + this.timeoutMs,
      tried: undefined,
      firstTried: undefined,
      round: 1,
      pending: 0,
      againAtMs: 0,
      failures: undefined,
      isSettled: false,
      done,
    };
    this.waiting.add(question);
    this.stopTicking ??= this.time.every(TICK_MS, () => this.tick());
    if (!this.askNext(question)) this.settle(question, unanswered(question));
  }

  /** Resolves when no question waits for an answer. */
  async idle(): Promise<void> {
    if (this.waiting.size > 0) await new Promise<void>((resolve) => this.becameIdle.push(resolve));
  }

  private settle(question: Question, outcome: Outcome): void {
    if (question.isSettled) return;
    question.isSettled = true;
    this.waiting.delete(question);
    if (outcome.kind === 'unanswered' && outcome.error.code === 'no_answer') this.cluster.health.unanswered();
    question.done(outcome);
    if (this.waiting.size > 0) return;
    this.stopTicking?.();
    this.stopTicking = undefined;
    for (const resolve of this.becameIdle) resolve();
    this.becameIdle = [];
  }

  /**
   * Sends the question to the best node that was not tried.
   * @returns whether the question is on its way, or waits for a node that wants a pause
   */
  private askNext(question: Question): boolean {
    const { topology, health } = this.cluster;
    const best = question.firstTried === undefined ? topology.addressOf(question.owner) : undefined;
    if (best !== undefined && health.restsUntilMs(best) === 0) return this.enqueue(question, best);
    let againAtMs = Infinity;
    for (const address of topology.addresses(question.clientId)) {
      if (address === question.firstTried || question.tried?.includes(address) === true) continue;
      const untilMs = health.restsUntilMs(address);
      if (untilMs === 0) return this.enqueue(question, address);
      againAtMs = Math.min(againAtMs, untilMs);
    }
    if (question.pending > 0 || againAtMs >= question.giveUpAtMs) return false;
    question.againAtMs = againAtMs;
    return true;
  }

  private enqueue(question: Question, address: string): true {
    if (question.firstTried === undefined) question.firstTried = address;
    else (question.tried ??= []).push(address);
    question.pending += 1;
    this.queue.add(address, question);
    return true;
  }

  /** Returns an id that no other client has. It needs no escapes in JSON. */
  private newId(): string {
    // Not earlier: an edge runtime has random numbers only while it answers a request.
    this.idPrefix ||= randomText();
    return `${this.idPrefix}${(this.ids += 1).toString(36)}`;
  }

  private async sendBatch(batch: Batch<Question>): Promise<void> {
    const { to, items, sentAtMs } = batch;
    const body = bodyOf(items, this.newId());
    // The last question has the latest deadline.
    const leftMs = Math.max(1, items.at(-1)!.giveUpAtMs - sentAtMs);
    const answer = await this.cluster.transport.send(to, { method: 'POST', path: '/v1/allow/batch', body }, leftMs);
    for (const question of items) question.pending -= 1;
    if (answer.kind === 'answer') this.answered(to, items, answer);
    else this.failed(to, items, answer.reason, answer.unconnected);
    this.queue.end(batch);
  }

  private answered(by: string, questions: readonly Question[], answer: NodeAnswer): void {
    const { results } = fieldsOf(answer.value);
    if (answer.status !== 200 || !Array.isArray(results) || results.length !== questions.length)
      return this.notDecided(by, questions, answer);
    this.cluster.answered(by);
    for (let i = 0; i < questions.length; i += 1) {
      const question = questions[i]!;
      const result: unknown = results[i];
      const decision = readDecision(result);
      if (decision !== undefined) this.settle(question, { kind: 'decided', decision, by });
      else {
        const problem = readProblem(fieldsOf(result)['error']);
        if (problem !== undefined && isFault(problem.status))
          this.settle(question, { kind: 'refused', error: problem });
        else this.askAgain(question, by, problem ?? new Error('answered with something that is no decision'), false);
      }
    }
  }

  private notDecided(by: string, questions: readonly Question[], answer: NodeAnswer): void {
    const { status, value, retryAfterMs } = answer;
    const problem = readProblem(value);
    if (status === 429 || status === 408) {
      this.cluster.health.answered();
      // The node limits this client, or this client was slow. Another node would only get the same load.
      if (retryAfterMs !== undefined) this.cluster.health.rest(by, retryAfterMs);
      const code = status === 408 ? 'timeout' : 'overloaded';
      const error = problem ?? new TokenringError(code, { status, detail: `${by} answered ${status}` });
      for (const question of questions) this.settle(question, { kind: 'unanswered', error });
    } else if (problem !== undefined && isFault(status)) {
      this.cluster.health.answered();
      for (const question of questions) this.settle(question, { kind: 'refused', error: problem });
    } else if (status === 503 && (problem?.code === 'overloaded' || retryAfterMs !== undefined)) {
      this.cluster.health.rest(by, retryAfterMs ?? REST_MS);
      if (problem?.code === 'overloaded') this.cluster.health.answered();
      this.cluster.doubt(by);
      const reason = problem ?? new TokenringError('overloaded', { detail: 'answered 503' });
      for (const question of questions) this.askAgain(question, by, reason, problem?.code === 'draining');
    } else {
      const reason = problem ?? new Error(`answered ${status}, which is no answer to a batch`);
      this.failed(by, questions, reason, false);
    }
  }

  private failed(address: string, questions: readonly Question[], reason: Error, unconnected: boolean): void {
    const isFree = this.cluster.failed(address);
    for (const question of questions) this.askAgain(question, address, reason, unconnected || isFree);
  }

  /** @param isFree whether the retry costs the nodes nothing */
  private askAgain(question: Question, address: string, reason: Error, isFree: boolean): void {
    (question.failures ??= new Map()).set(address, reason);
    if (question.isSettled || question.pending > 0) return;
    if (!isFree && !this.cluster.health.takeRetry()) return this.settle(question, unanswered(question));
    if (this.askNext(question)) return;
    if (question.round === ROUNDS) return this.settle(question, unanswered(question));
    question.round += 1;
    question.tried = question.firstTried = undefined;
    question.againAtMs = this.time.nowMs() + AGAIN_AFTER_MS;
  }

  private tick(): void {
    const nowMs = this.time.nowMs();
    // The next node is asked as well, and the first answer counts.
    for (const { to: address, items } of this.queue.overdue(OVERDUE_MS)) {
      const isFree = this.cluster.failed(address);
      const reason = new Error(`no answer within ${OVERDUE_MS} ms`);
      for (const question of [...items, ...this.queue.waitingFor(address)]) {
        if (question.isSettled) continue;
        (question.failures ??= new Map()).set(address, reason);
        if (isFree || this.cluster.health.takeRetry()) this.askNext(question);
      }
    }
    const refusal = this.cluster.health.refusal();
    for (const question of this.waiting) {
      if (refusal !== undefined) this.settle(question, { kind: 'unanswered', error: refusal });
      else if (nowMs >= question.giveUpAtMs) this.settle(question, unanswered(question));
      else if (question.pending === 0 && nowMs >= question.againAtMs && !this.askNext(question))
        this.settle(question, unanswered(question));
    }
  }
}

/** @returns 16 characters with 96 random bits */
function randomText(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_');
}

const encoder = new TextEncoder();
/** Largest number of bytes of a UTF-16 code unit in UTF-8. */
const MAX_UNIT_BYTES = 3;
const SHORT_UNITS = 1_000;

/** @returns the bytes of a text in UTF-8, exactly if it is long; an upper bound, which is cheap, if it is short */
function bytesOf(text: string): number {
  return text.length <= SHORT_UNITS ? text.length * MAX_UNIT_BYTES : encoder.encode(text).length;
}

/**
 * Writes the body of a batch, and gives ids to the questions that need one. The id of a question stays when the question
 * is sent again, so it is charged once. One id for all questions of a batch costs the nodes much less than one each.
 */
function bodyOf(questions: readonly Question[], batchId: string): string {
  let list = '';
  for (let index = 0; index < questions.length; index += 1) {
    const question = questions[index]!;
    if (index > 0) list += ',';
    if (question.batchId !== undefined) {
      list += withRequestId(question.text, batchItemId(question.batchId, question.index));
      continue;
    }
    list += question.text;
    if (!question.needsId) continue;
    question.batchId = batchId;
    question.index = index;
  }
  return `{"requestId":"${batchId}","requests":[${list}]}`;
}

function unanswered({ failures }: Question): Outcome {
  return { kind: 'unanswered', error: noAnswer(failures) };
}

/** Tells whether the question or the token is at fault, so that another node would answer the same. */
function isFault(status: number): boolean {
  return status >= 400 && status < 500;
}

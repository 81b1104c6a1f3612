import type { Decision } from '../limits/decide/decision.js';
import type { NodeId } from '../limits/ring/ring.js';
import { BatchingQueue, type Batch } from '../lib/batching-queue.js';
import { TokenringError } from '../lib/error.js';
import { MAX_BATCH, MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../limits/request/request.js';
import { fieldsOf, readDecision, readProblem } from './nodes/answers.js';
import type { Cluster } from './nodes/cluster.js';
import { noAnswer } from './nodes/node-health.js';
import type { NodeAnswer, NodeRequest } from './nodes/transport.js';
import type { ReadClientOptions } from './options.js';
import { bytesOf, Question, randomText, writeBatch, type Outcome } from './question.js';
import type { Time } from './runtime.js';

/**
 * When all nodes have failed, they are asked once more after this time. A broken connection does not mean a dead node.
 */
const AGAIN_AFTER_MS = 50;
const ROUNDS = 2;
/** A node that has not answered a batch after this long is overdue: another node is asked as well. */
const BATCH_OVERDUE_MS = 250;
/** The same for a call, as a part of its time: a node may have to ask all others for it. */
const CALL_OVERDUE = 1 / 3;
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

/** Sends each question to the best node, checks in batches and calls alone, and to another node when that fails. */
export class QuestionDispatcher {
  private readonly checks: BatchingQueue<Question>;
  private readonly calls: BatchingQueue<Question>;
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
    this.checks = new BatchingQueue({
      clock: time,
      timers: time,
      send: (batch) => {
        const body = writeBatch(batch.items, this.newId());
        void this.send(this.checks, batch, { method: 'POST', path: '/v1/allow/batch', body });
      },
      maxInFlight: MAX_IN_FLIGHT,
      coalesces: true,
      maxItems: MAX_BATCH,
      maxSize: MAX_BATCH_BYTES - FRAME_BYTES,
      sizeOf: ({ bytes, batchId }) => bytes + (batchId === undefined ? 1 : REQUEST_ID_BYTES),
      isOver: ({ isSettled }) => isSettled,
    });
    this.calls = new BatchingQueue({
      clock: time,
      timers: time,
      send: (batch) => void this.send(this.calls, batch, batch.items[0]!.sent as NodeRequest),
      maxItems: 1,
      isOver: ({ isSettled }) => isSettled,
    });
  }

  /**
   * Asks for a decision.
   * @param owner of the client, if it is known
   * @param text the check as JSON
   * @param needsId whether it consumes and has no request id, so that it needs one to be charged once
   * @param done called once, perhaps before this returns
   */
  check(
    clientId: string,
    owner: NodeId | undefined,
    text: string,
    needsId: boolean,
    done: (outcome: Outcome<Decision>) => void,
  ): void {
    const bytes = bytesOf(text);
    const giveUpAtMs = this.time.nowMs() + this.timeoutMs;
    if (bytes <= MAX_REQUEST_BYTES)
      return this.ask(new Question(clientId, owner, text, bytes, needsId, giveUpAtMs, readDecision, done));
    const expected = `at most ${MAX_REQUEST_BYTES} bytes`;
    done({ kind: 'refused', error: new TokenringError('too_large', { field: 'body', expected }) });
  }

  /**
   * Sends anything but a check. Nodes may execute it more than once.
   * @param read returns `undefined` for a value that is no answer
   * @throws TokenringError
   */
  call<T>(clientId: string, request: NodeRequest, read: (value: unknown) => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = (outcome: Outcome<T>): void => {
        if (outcome.kind === 'answered') resolve(outcome.value);
        else reject(outcome.error);
      };
      const owner = this.cluster.topology.ownerOf(clientId);
      const giveUpAtMs = this.time.nowMs() + this.timeoutMs;
      this.ask(new Question(clientId, owner, request, 0, false, giveUpAtMs, read, done));
    });
  }

  /** Resolves when no question waits for an answer. */
  async idle(): Promise<void> {
    if (this.waiting.size > 0) await new Promise<void>((resolve) => this.becameIdle.push(resolve));
  }

  private ask<T>(asked: Question<T>): void {
    // Only its own `read` makes the value that its `done` gets.
    const question = asked as unknown as Question;
    const refusal = this.cluster.health.refusal();
    if (refusal !== undefined) return question.done({ kind: 'unanswered', error: refusal });
    if (this.waiting.size >= this.maxWaiting) {
      const detail = `${this.maxWaiting} questions of this client wait for an answer`;
      return question.done({ kind: 'unanswered', error: new TokenringError('overloaded', { detail }) });
    }
    this.cluster.health.asked();
    this.waiting.add(question);
    this.stopTicking ??= this.time.every(TICK_MS, () => this.tick());
    if (!this.askNext(question)) this.giveUp(question);
  }

  private settle(question: Question, outcome: Outcome<unknown>): void {
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

  private giveUp(question: Question): void {
    const { failures, sent } = question;
    this.settle(question, { kind: 'unanswered', error: noAnswer(failures, typeof sent !== 'string') });
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
    (typeof question.sent === 'string' ? this.checks : this.calls).add(address, question);
    return true;
  }

  /** Returns an id that no other client has. It needs no escapes in JSON. */
  private newId(): string {
    // Not earlier: an edge runtime has random numbers only while it answers a request.
    this.idPrefix ||= randomText();
    return `${this.idPrefix}${(this.ids += 1).toString(36)}`;
  }

  private async send(queue: BatchingQueue<Question>, batch: Batch<Question>, request: NodeRequest): Promise<void> {
    const { to, items, sentAtMs } = batch;
    // The last question has the latest deadline.
    const leftMs = Math.max(1, items.at(-1)!.giveUpAtMs - sentAtMs);
    const answer = await this.cluster.transport.send(to, request, leftMs);
    for (const question of items) question.pending -= 1;
    if (answer.kind === 'failed') this.failed(to, items, answer.reason, answer.unconnected);
    else {
      const values = queue === this.checks ? decisionsOf(answer) : valueOf(answer);
      if (values?.length === items.length) this.answered(to, items, values);
      else this.notAnswered(to, items, answer);
    }
    queue.end(batch);
  }

  private answered(by: string, questions: readonly Question[], values: readonly unknown[]): void {
    this.cluster.answered(by);
    for (let i = 0; i < questions.length; i += 1) {
      const question = questions[i]!;
      const value = question.read(values[i]);
      if (value !== undefined) this.settle(question, { kind: 'answered', value, by });
      else {
        const problem = readProblem(fieldsOf(values[i])['error']);
        if (problem !== undefined && isFault(problem.status))
          this.settle(question, { kind: 'refused', error: problem });
        else this.askAgain(question, by, problem ?? new Error('answered with something else'), false);
      }
    }
  }

  private notAnswered(by: string, questions: readonly Question[], answer: NodeAnswer): void {
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
      const reason = problem ?? new Error(`answered ${status} with something else`);
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
    if (!isFree && !this.cluster.health.takeRetry()) return this.giveUp(question);
    if (this.askNext(question)) return;
    if (question.round === ROUNDS) return this.giveUp(question);
    question.round += 1;
    question.tried = question.firstTried = undefined;
    question.againAtMs = this.time.nowMs() + AGAIN_AFTER_MS;
  }

  private tick(): void {
    const nowMs = this.time.nowMs();
    this.askOthers(this.checks, BATCH_OVERDUE_MS);
    this.askOthers(this.calls, CALL_OVERDUE * this.timeoutMs);
    const refusal = this.cluster.health.refusal();
    for (const question of this.waiting) {
      if (refusal !== undefined) this.settle(question, { kind: 'unanswered', error: refusal });
      else if (nowMs >= question.giveUpAtMs) this.giveUp(question);
      else if (question.pending === 0 && nowMs >= question.againAtMs && !this.askNext(question)) this.giveUp(question);
    }
  }

  /** Asks another node as well where one is overdue. The first answer counts. */
  private askOthers(queue: BatchingQueue<Question>, overdueMs: number): void {
    for (const { to: address, items } of queue.overdue(overdueMs)) {
      const isFree = this.cluster.failed(address);
      const reason = new Error(`no answer within ${Math.round(overdueMs)} ms`);
      for (const question of [...items, ...queue.waitingFor(address)]) {
        if (question.isSettled) continue;
        (question.failures ??= new Map()).set(address, reason);
        if (isFree || this.cluster.health.takeRetry()) this.askNext(question);
      }
    }
  }
}

/** Returns the results of a batch; `undefined` without any. */
function decisionsOf({ status, value }: NodeAnswer): readonly unknown[] | undefined {
  const { results } = fieldsOf(value);
  return status === 200 && Array.isArray(results) ? results : undefined;
}

/** Returns the result of a call, as the only one; `undefined` without one. */
function valueOf({ status, value }: NodeAnswer): readonly unknown[] | undefined {
  return status === 200 || status === 204 ? [value] : undefined;
}

/** Tells whether the question or the token is at fault, so that another node would answer the same. */
function isFault(status: number): boolean {
  return status >= 400 && status < 500;
}

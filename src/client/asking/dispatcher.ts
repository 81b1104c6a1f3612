import type { Decision } from '../../limits/decide/decision.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { TokenringError } from '../../lib/error.js';
import { MAX_REQUEST_BYTES } from '../../limits/request/request.js';
import type { Circuit } from './circuit.js';
import { createBatcher, OVERDUE_MS } from './batcher.js';
import type { Question } from './batcher.js';
import { fieldsOf, readDecision, readProblem } from './read-answer.js';
import { describeFailures } from './retries.js';
import type { Retries } from './retries.js';
import type { Time } from '../time.js';
import type { Topology } from '../topology/topology.js';
import type { Exchanged, Transport } from '../transport/transport.js';

/** The outcome of a question. */
export type Asked =
  | { readonly kind: 'decided'; readonly decision: Decision; readonly by: string }
  /** The question or the token is at fault. Every node would give the same answer. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  /** No node could answer in time. */
  | { readonly kind: 'unanswered'; readonly error: TokenringError };

/** Sends each question to the best node, in batches, and to another node when that fails. */
interface QuestionDispatcher {
  /**
   * @param owner of the client, if it is known
   * @param text the question as JSON; it may be sent more than once
   * @param needsId whether it consumes and has no request id, so that it needs one to be charged once
   * @param done called once, perhaps before this returns. A promise for each question would cost more than its JSON.
   */
  ask(clientId: string, owner: NodeId | undefined, text: string, needsId: boolean, done: (asked: Asked) => void): void;
  /** Resolves when no question waits for an answer. */
  idle(): Promise<void>;
}

interface QuestionDispatcherDeps {
  readonly transport: Transport;
  readonly topology: Topology;
  readonly retries: Retries;
  readonly circuit: Circuit;
  readonly time: Time;
  /** Returns an id that no other client has. It needs no escapes in JSON. */
  readonly newId: () => string;
  readonly onFailure: (address: string) => void;
}

interface QuestionDispatcherOptions {
  /** Longest time from a question to its answer, in ms. */
  readonly timeoutMs: number;
  /** Bound of questions that wait for an answer. */
  readonly maxWaiting: number;
}

/**
 * When all nodes have failed, they are asked once more after this time. A broken connection does not mean a dead node.
 */
const AGAIN_AFTER_MS = 50;
const ROUNDS = 2;
/** Pause for an overloaded node that sends no `Retry-After`. */
const REST_MS = 1_000;
/** The resolution of all waits here. */
const TICK_MS = 25;

interface Item extends Question {
  readonly clientId: string;
  readonly owner: NodeId | undefined;
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
  isSettled: boolean;
  readonly done: (asked: Asked) => void;
  /** Neighbours in the list of waiting questions, in the order of deadlines. */
  before: Item | undefined;
  after: Item | undefined;
}

export function createQuestionDispatcher(
  { transport, topology, retries, circuit, time, newId, onFailure }: QuestionDispatcherDeps,
  { timeoutMs, maxWaiting }: QuestionDispatcherOptions,
): QuestionDispatcher {
  const batcher = createBatcher<Item>({ transport, time, newId }, completed);
  let first: Item | undefined;
  let last: Item | undefined;
  let waiting = 0;
  let stopTicking: (() => void) | undefined;
  let becameIdle: (() => void)[] = [];

  function settle(item: Item, asked: Asked): void {
    if (item.isSettled) return;
    item.isSettled = true;
    const { before, after } = item;
    if (before === undefined) first = after;
    else before.after = after;
    if (after === undefined) last = before;
    else after.before = before;
    item.before = item.after = undefined;
    waiting -= 1;
    if (asked.kind === 'unanswered' && asked.error.code === 'no_answer') circuit.unanswered();
    item.done(asked);
    if (waiting > 0) return;
    stopTicking?.();
    stopTicking = undefined;
    for (const resolve of becameIdle) resolve();
    becameIdle = [];
  }

  /**
   * Sends the question to the best node that was not tried.
   * @returns whether the question is on its way, or waits for a node that wants a pause
   */
  function askNext(item: Item): boolean {
    const best = item.firstTried === undefined ? topology.addressOf(item.owner) : undefined;
    if (best !== undefined && retries.restsUntilMs(best) === 0) return send(item, best);
    let againAtMs = Infinity;
    for (const address of topology.addresses(item.clientId)) {
      if (address === item.firstTried || item.tried?.includes(address) === true) continue;
      const untilMs = retries.restsUntilMs(address);
      if (untilMs === 0) return send(item, address);
      againAtMs = Math.min(againAtMs, untilMs);
    }
    if (item.pending > 0 || againAtMs >= item.giveUpAtMs) return false;
    item.againAtMs = againAtMs;
    return true;
  }

  function send(item: Item, address: string): true {
    if (item.firstTried === undefined) item.firstTried = address;
    else (item.tried ??= []).push(address);
    item.pending += 1;
    batcher.add(address, item);
    return true;
  }

  function completed(address: string, items: readonly Item[], exchanged: Exchanged): void {
    for (const item of items) item.pending -= 1;
    if (exchanged.kind === 'failed') {
      const isFree = retries.failed(address);
      failed(address, items, exchanged.reason, exchanged.unconnected || isFree);
    } else answered(address, items, exchanged);
  }

  function answered(by: string, items: readonly Item[], answer: Extract<Exchanged, { kind: 'answer' }>): void {
    const { results } = fieldsOf(answer.value);
    if (answer.status !== 200 || !Array.isArray(results) || results.length !== items.length)
      return notDecided(by, items, answer);
    topology.answers(by);
    circuit.answered();
    for (let i = 0; i < items.length; i += 1) {
      const item = items[i]!;
      const result: unknown = results[i];
      const decision = readDecision(result);
      if (decision !== undefined) settle(item, { kind: 'decided', decision, by });
      else {
        const problem = readProblem(fieldsOf(result)['error']);
        if (problem !== undefined && isFault(problem.status)) settle(item, { kind: 'refused', error: problem });
        else askAgain(item, by, problem ?? new Error('answered with something that is no decision'), false);
      }
    }
  }

  function notDecided(by: string, items: readonly Item[], answer: Extract<Exchanged, { kind: 'answer' }>): void {
    const { status, value, retryAfterMs } = answer;
    const problem = readProblem(value);
    if (status === 429 || status === 408) {
      circuit.answered();
      // The node limits this client, or this client was slow. Another node would only get the same load.
      if (retryAfterMs !== undefined) retries.rest(by, retryAfterMs);
      const code = status === 408 ? 'timeout' : 'overloaded';
      const error = problem ?? new TokenringError(code, { status, detail: `${by} answered ${status}` });
      for (const item of items) settle(item, { kind: 'unanswered', error });
    } else if (problem !== undefined && isFault(status)) {
      circuit.answered();
      for (const item of items) settle(item, { kind: 'refused', error: problem });
    } else if (status === 503 && (problem?.code === 'overloaded' || retryAfterMs !== undefined)) {
      retries.rest(by, retryAfterMs ?? REST_MS);
      if (problem?.code === 'overloaded') circuit.answered();
      onFailure(by);
      const reason = problem ?? new TokenringError('overloaded', { detail: 'answered 503' });
      for (const item of items) askAgain(item, by, reason, problem?.code === 'draining');
    } else {
      const reason = problem ?? new Error(`answered ${status}, which is no answer to a batch`);
      failed(by, items, reason, retries.failed(by));
    }
  }

  function failed(address: string, items: readonly Item[], reason: Error, isFree: boolean): void {
    topology.fails(address);
    circuit.failed();
    onFailure(address);
    for (const item of items) askAgain(item, address, reason, isFree);
  }

  /** @param isFree whether the retry costs the nodes nothing */
  function askAgain(item: Item, address: string, reason: Error, isFree: boolean): void {
    (item.failures ??= new Map()).set(address, reason);
    if (item.isSettled || item.pending > 0) return;
    if (!isFree && !retries.take()) return settle(item, unanswered(item));
    if (askNext(item)) return;
    if (item.round === ROUNDS) return settle(item, unanswered(item));
    item.round += 1;
    item.tried = item.firstTried = undefined;
    item.againAtMs = time.nowMs() + AGAIN_AFTER_MS;
  }

  function tick(): void {
    const nowMs = time.nowMs();
    // The next node is asked as well, and the first answer counts.
    for (const { address, questions } of batcher.overdue()) {
      const isFree = retries.failed(address);
      topology.fails(address);
      circuit.failed();
      onFailure(address);
      const reason = new Error(`no answer within ${OVERDUE_MS} ms`);
      for (const item of questions) {
        if (item.isSettled) continue;
        (item.failures ??= new Map()).set(address, reason);
        if (isFree || retries.take()) askNext(item);
      }
    }
    const refusal = circuit.refusal();
    for (let item = first, next = first?.after; item !== undefined; item = next, next = item?.after) {
      if (refusal !== undefined) settle(item, { kind: 'unanswered', error: refusal });
      else if (nowMs >= item.giveUpAtMs) settle(item, unanswered(item));
      else if (item.pending === 0 && nowMs >= item.againAtMs && !askNext(item)) settle(item, unanswered(item));
    }
  }

  return {
    ask(clientId, owner, text, needsId, done) {
      const bytes = bytesOf(text);
      if (bytes > MAX_REQUEST_BYTES) {
        const expected = `at most ${MAX_REQUEST_BYTES} bytes`;
        return done({ kind: 'refused', error: new TokenringError('too_large', { field: 'body', expected }) });
      }
      const refusal = circuit.refusal();
      if (refusal !== undefined) return done({ kind: 'unanswered', error: refusal });
      if (waiting >= maxWaiting) {
        const detail = `${maxWaiting} questions of this client wait for an answer`;
        return done({ kind: 'unanswered', error: new TokenringError('overloaded', { detail }) });
      }
      retries.asked();
      const item: Item = {
        clientId,
        owner,
        text,
        bytes,
        needsId,
        batchId: undefined,
        place: 0,
        giveUpAtMs: time.nowMs() + timeoutMs,
        tried: undefined,
        firstTried: undefined,
        round: 1,
        pending: 0,
        againAtMs: 0,
        failures: undefined,
        isSettled: false,
        done,
        before: last,
        after: undefined,
      };
      if (last === undefined) first = item;
      else last.after = item;
      last = item;
      waiting += 1;
      stopTicking ??= time.every(TICK_MS, tick);
      if (!askNext(item)) settle(item, unanswered(item));
    },
    async idle() {
      if (waiting > 0) await new Promise<void>((resolve) => becameIdle.push(resolve));
    },
  };
}

const encoder = new TextEncoder();
/** Largest number of bytes of a UTF-16 code unit in UTF-8. */
const MAX_UNIT_BYTES = 3;
const SHORT_UNITS = 1_000;

/** @returns the bytes of a text in UTF-8, exactly if it is long; an upper bound, which is cheap, if it is short */
function bytesOf(text: string): number {
  return text.length <= SHORT_UNITS ? text.length * MAX_UNIT_BYTES : encoder.encode(text).length;
}

/** Creates the error of a question that no node has answered: `overloaded` if that was the last node's answer. */
function unanswered({ failures }: Item): Asked {
  if (failures === undefined) {
    const detail = 'every node has asked for a pause';
    return { kind: 'unanswered', error: new TokenringError('overloaded', { detail }) };
  }
  const cause = [...failures.values()].at(-1);
  const code = cause instanceof TokenringError && cause.code === 'overloaded' ? 'overloaded' : 'no_answer';
  return { kind: 'unanswered', error: new TokenringError(code, { detail: describeFailures(failures) }, { cause }) };
}

/** Tells whether the question or the token is at fault, so that another node would answer the same. */
function isFault(status: number): boolean {
  return status >= 400 && status < 500;
}

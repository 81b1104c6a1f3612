import type { Decision } from '../core/decision.js';
import { MAX_REQUEST_BYTES } from '../core/request.js';
import type { Topology } from './topology.js';
import { TokenringError } from '../core/error.js';
import { createBatcher } from './batcher.js';
import type { Question } from './batcher.js';
import { fieldsOf, readDecision, readProblem } from './read-answer.js';
import type { Time } from './time.js';
import type { Exchanged, Transport } from './transport.js';

/** What became of a question. */
export type Asked =
  | { readonly kind: 'decided'; readonly decision: Decision; readonly by: string }
  /** The question itself is at fault, or who asks: no other node would answer otherwise. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  /** Nobody who could answer did so in time. */
  | { readonly kind: 'unanswered'; readonly error: TokenringError };

/** Puts questions to the nodes that are to answer them, in batches. */
interface QuestionDispatcher {
  /**
   * Never rejects.
   * @param text the question as JSON, which may be sent more than once
   */
  ask(clientId: string, text: string): Promise<Asked>;
  /** Resolves when nothing waits for an answer anymore. */
  idle(): Promise<void>;
}

interface QuestionDispatcherOptions {
  /** From the question to its answer, at most, in ms. */
  readonly timeoutMs: number;
  /** Questions that wait for an answer, at most. */
  readonly maxWaiting: number;
}

/** When all have failed, they are asked once more after this long: a broken connection is no dead node. */
const AGAIN_AFTER_MS = 50;
const ROUNDS = 2;
/** The resolution of all waits here. */
const TICK_MS = 25;
interface Item extends Question {
  readonly clientId: string;
  tried: string[];
  round: number;
  /** Nodes from which an answer may still come. */
  pending: number;
  /** When it is asked again, while `pending` is 0. */
  againAtMs: number;
  failure: Error | undefined;
  isSettled: boolean;
  readonly resolve: (asked: Asked) => void;
}

export function createQuestionDispatcher(
  deps: { transport: Transport; topology: Topology; time: Time; onFailure: (address: string) => void },
  { timeoutMs, maxWaiting }: QuestionDispatcherOptions,
): QuestionDispatcher {
  const { transport, topology, time, onFailure } = deps;
  const batcher = createBatcher<Item>({ transport, time }, ended);
  /** In the order in which they are to be given up. */
  const waiting = new Set<Item>();
  let stopTicking: (() => void) | undefined;
  let becameIdle: (() => void)[] = [];

  function settle(item: Item, asked: Asked): void {
    if (!waiting.delete(item)) return;
    item.isSettled = true;
    item.resolve(asked);
    if (waiting.size > 0) return;
    stopTicking?.();
    stopTicking = undefined;
    for (const tell of becameIdle) tell();
    becameIdle = [];
  }

  /** Asks the best who was not asked yet. @returns whether there is one */
  function askNext(item: Item): boolean {
    for (const address of topology.addresses(item.clientId)) {
      if (item.tried.includes(address)) continue;
      item.tried.push(address);
      item.pending += 1;
      batcher.add(address, item);
      return true;
    }
    return false;
  }

  function ended(address: string, items: readonly Item[], exchanged: Exchanged): void {
    for (const item of items) item.pending -= 1;
    if (exchanged.kind === 'failed') fail(address, items, exchanged.reason);
    else answered(address, items, exchanged.status, exchanged.value);
  }

  function answered(by: string, items: readonly Item[], status: number, value: unknown): void {
    const { results } = fieldsOf(value);
    if (status !== 200 || !Array.isArray(results) || results.length !== items.length) {
      const problem = readProblem(value) ?? new Error(`${by} answered ${status}, which is no answer to a batch`);
      if (!(problem instanceof TokenringError && isFinal(problem))) return fail(by, items, problem);
      for (const item of items) settle(item, { kind: 'refused', error: problem });
      return;
    }
    topology.answers(by);
    items.forEach((item, i) => {
      const result: unknown = results[i];
      const decision = readDecision(result);
      if (decision !== undefined) return settle(item, { kind: 'decided', decision, by });
      const problem = readProblem(fieldsOf(result)['error']);
      if (problem !== undefined && isFinal(problem)) return settle(item, { kind: 'refused', error: problem });
      failOne(item, problem ?? new Error(`${by} answered with what is no decision`));
    });
  }

  function fail(address: string, items: readonly Item[], reason: Error): void {
    topology.fails(address);
    onFailure(address);
    for (const item of items) failOne(item, reason);
  }

  function failOne(item: Item, reason: Error): void {
    item.failure = reason;
    if (item.isSettled || askNext(item) || item.pending > 0) return;
    if (item.round === ROUNDS) return settle(item, unanswered(item));
    item.round += 1;
    item.tried = [];
    item.againAtMs = time.nowMs() + AGAIN_AFTER_MS;
  }

  function tick(): void {
    const nowMs = time.nowMs();
    // Who is late is not waited for alone: the next is asked as well, and the first answer counts.
    for (const { address, questions } of batcher.overdue()) {
      topology.fails(address);
      onFailure(address);
      for (const item of questions) if (!item.isSettled) askNext(item);
    }
    for (const item of waiting) {
      if (nowMs >= item.giveUpAtMs) settle(item, unanswered(item));
      else if (item.pending === 0 && nowMs >= item.againAtMs && !askNext(item)) settle(item, unanswered(item));
    }
  }

  return {
    ask(clientId, text) {
      const bytes = Buffer.byteLength(text);
      if (bytes > MAX_REQUEST_BYTES) {
        const expected = `at most ${MAX_REQUEST_BYTES} bytes`;
        const error = new TokenringError('too_large', { field: 'body', expected });
        return Promise.resolve({ kind: 'refused', error });
      }
      if (waiting.size >= maxWaiting) {
        const error = new TokenringError('overloaded', {
          detail: `${maxWaiting} questions wait for an answer already`,
        });
        return Promise.resolve({ kind: 'unanswered', error });
      }
      return new Promise((resolve) => {
        const item: Item = {
          clientId,
          text,
          bytes,
          giveUpAtMs: time.nowMs() + timeoutMs,
          tried: [],
          round: 1,
          pending: 0,
          againAtMs: 0,
          failure: undefined,
          isSettled: false,
          resolve,
        };
        waiting.add(item);
        stopTicking ??= time.every(TICK_MS, tick);
        askNext(item);
      });
    },
    async idle() {
      if (waiting.size > 0) await new Promise<void>((resolve) => becameIdle.push(resolve));
    },
  };
}

function unanswered({ failure }: Item): Asked {
  return { kind: 'unanswered', error: new TokenringError('no_answer', {}, { cause: failure }) };
}

/** Whether another node would say the same. One that is too busy, stops or has not got it in time says so of itself. */
function isFinal({ status }: TokenringError): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

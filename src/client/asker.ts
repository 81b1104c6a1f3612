import { MAX_BATCH, MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../core/request.js';
import type { Decision } from '../core/decision.js';
import type { Directory } from './directory.js';
import { ownError, TokenringError } from './error.js';
import { fieldsOf, readDecision, readProblem } from './read-answer.js';
import type { Time } from './time.js';
import type { Transport } from './transport.js';

/** What became of a question. */
export type Asked =
  | { readonly kind: 'decided'; readonly decision: Decision; readonly by: string }
  /** The question itself is at fault, or who asks: no other node would answer otherwise. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  /** Nobody who could answer did so in time. */
  | { readonly kind: 'unanswered'; readonly error: TokenringError };

/** Puts questions to the nodes that are to answer them, in batches. */
export interface Asker {
  /**
   * Never rejects.
   * @param text the question as JSON, which may be sent more than once
   */
  ask(clientId: string, text: string): Promise<Asked>;
  /** Resolves when nothing waits for an answer anymore. */
  idle(): Promise<void>;
}

export interface AskerOptions {
  /** From the question to its answer, at most, in ms. */
  readonly timeoutMs: number;
  /** Questions that wait for an answer, at most. */
  readonly maxWaiting: number;
}

/** Batches under way to one node; what comes meanwhile goes in the next. So an idle node is asked at once, a busy one in bulk. */
const MAX_IN_FLIGHT = 2;
/** Who has not answered by then is not waited for alone: the next is asked as well, and the first answer counts. */
const PATIENCE_MS = 250;
/** When all have failed, they are asked once more after this long: a broken connection is no dead node. */
const AGAIN_AFTER_MS = 50;
const ROUNDS = 2;
/** The resolution of all waits here. */
const TICK_MS = 25;
/** `{"requests":[]}`, and a comma for each. */
const FRAME_BYTES = 15;

interface Item {
  readonly clientId: string;
  readonly text: string;
  readonly bytes: number;
  readonly giveUpAtMs: number;
  tried: string[];
  round: number;
  /** Nodes from which an answer may still come. */
  pending: number;
  /** When it is asked again, while `pending` is 0. */
  againAtMs: number;
  failure: Error | undefined;
  resolve: ((asked: Asked) => void) | undefined;
}

interface Batch {
  readonly items: readonly Item[];
  readonly sentAtMs: number;
  /** Whether others have been asked as well. */
  overdue: boolean;
}

interface Lane {
  readonly address: string;
  queue: Item[];
  readonly inFlight: Set<Batch>;
  pumpsSoon: boolean;
}

export function createAsker(
  deps: { transport: Transport; directory: Directory; time: Time; onFailure: (address: string) => void },
  { timeoutMs, maxWaiting }: AskerOptions,
): Asker {
  const { transport, directory, time, onFailure } = deps;
  const lanes = new Map<string, Lane>();
  /** In the order in which they are to be given up. */
  const waiting = new Set<Item>();
  let stopTicking: (() => void) | undefined;
  let becameIdle: (() => void)[] = [];

  function settle(item: Item, asked: Asked): void {
    if (!waiting.delete(item)) return;
    item.resolve?.(asked);
    item.resolve = undefined;
    if (waiting.size > 0) return;
    stopTicking?.();
    stopTicking = undefined;
    for (const tell of becameIdle) tell();
    becameIdle = [];
  }

  /** Asks the best who was not asked yet. @returns whether there is one */
  function askNext(item: Item): boolean {
    for (const address of directory.addresses(item.clientId)) {
      if (item.tried.includes(address)) continue;
      item.tried.push(address);
      item.pending += 1;
      enqueue(item, address);
      return true;
    }
    return false;
  }

  function enqueue(item: Item, address: string): void {
    const lane = laneTo(address);
    lane.queue.push(item);
    if (lane.pumpsSoon) return;
    lane.pumpsSoon = true;
    time.soon(() => {
      lane.pumpsSoon = false;
      pump(lane);
    });
  }

  function laneTo(address: string): Lane {
    let lane = lanes.get(address);
    if (lane === undefined) lanes.set(address, (lane = { address, queue: [], inFlight: new Set(), pumpsSoon: false }));
    return lane;
  }

  function pump(lane: Lane): void {
    while (lane.queue.length > 0 && lane.inFlight.size < MAX_IN_FLIGHT) {
      const items = takeBatch(lane);
      if (items.length > 0) void send(lane, items);
    }
    if (lane.queue.length === 0 && lane.inFlight.size === 0) lanes.delete(lane.address);
  }

  /** As many of the queue as one body may hold, without those that were answered elsewhere. */
  function takeBatch(lane: Lane): Item[] {
    const items: Item[] = [];
    let bytes = FRAME_BYTES;
    let taken = 0;
    for (const item of lane.queue) {
      if (item.resolve !== undefined) {
        if (items.length === MAX_BATCH || bytes + item.bytes + 1 > MAX_BATCH_BYTES) break;
        items.push(item);
        bytes += item.bytes + 1;
      }
      taken += 1;
    }
    lane.queue = taken === lane.queue.length ? [] : lane.queue.slice(taken);
    return items;
  }

  async function send(lane: Lane, items: readonly Item[]): Promise<void> {
    const nowMs = time.nowMs();
    const batch: Batch = { items, sentAtMs: nowMs, overdue: false };
    lane.inFlight.add(batch);
    const body = `{"requests":[${items.map(({ text }) => text).join(',')}]}`;
    // The last of them has the most time left.
    const leftMs = Math.max(1, items.at(-1)!.giveUpAtMs - nowMs);
    const sent = { method: 'POST', path: '/v1/allow/batch', body } as const;
    const exchanged = await transport.send(lane.address, sent, leftMs);
    lane.inFlight.delete(batch);
    for (const item of items) item.pending -= 1;
    if (exchanged.kind === 'failed') fail(lane.address, items, exchanged.reason);
    else answered(lane.address, items, exchanged.status, exchanged.value);
    pump(lane);
  }

  function answered(by: string, items: readonly Item[], status: number, value: unknown): void {
    const { results } = fieldsOf(value);
    if (status !== 200 || !Array.isArray(results) || results.length !== items.length) {
      const problem = readProblem(value) ?? new Error(`${by} answered ${status}, which is no answer to a batch`);
      if (!(problem instanceof TokenringError && isFinal(problem))) return fail(by, items, problem);
      for (const item of items) settle(item, { kind: 'refused', error: problem });
      return;
    }
    directory.answers(by);
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
    directory.fails(address);
    onFailure(address);
    for (const item of items) failOne(item, reason);
  }

  function failOne(item: Item, reason: Error): void {
    item.failure = reason;
    if (item.resolve === undefined || askNext(item) || item.pending > 0) return;
    if (item.round === ROUNDS) return settle(item, unanswered(item));
    item.round += 1;
    item.tried = [];
    item.againAtMs = time.nowMs() + AGAIN_AFTER_MS;
  }

  function tick(): void {
    const nowMs = time.nowMs();
    for (const lane of lanes.values()) {
      for (const batch of lane.inFlight) {
        if (batch.overdue || nowMs - batch.sentAtMs < PATIENCE_MS) continue;
        batch.overdue = true;
        directory.fails(lane.address);
        onFailure(lane.address);
        for (const item of [...batch.items, ...lane.queue]) if (item.resolve !== undefined) askNext(item);
      }
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
        const error = new TokenringError('too_large', `The request is too large: expected ${expected}`, {
          field: 'body',
          expected,
        });
        return Promise.resolve({ kind: 'refused', error });
      }
      if (waiting.size >= maxWaiting) {
        const error = ownError('overloaded', `${maxWaiting} questions wait for an answer already`);
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
  return { kind: 'unanswered', error: ownError('no_answer', 'No node has answered in time', failure) };
}

/** Whether another node would say the same. One that is too busy, stops or has not got it in time says so of itself. */
function isFinal({ status = 500 }: TokenringError): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

import { batchItemId } from '../../limits/batch-item-id.js';
import { MAX_BATCH, MAX_BATCH_BYTES } from '../../limits/request/request.js';
import { withRequestId } from '../question.js';
import type { Time } from '../time.js';
import type { Exchanged, Transport } from '../transport/transport.js';

/** Bound of batches in flight to one node. Later questions go in the next batch. */
const MAX_IN_FLIGHT = 2;
/** A batch without an answer after this long is overdue. */
export const OVERDUE_MS = 250;
/** Bound of the bytes of `{"requestId":"…","requests":[]}`. Each question adds a comma. */
const FRAME_BYTES = 64;
/** Bound of the bytes of a comma and `,"requestId":"…"`. */
const REQUEST_ID_BYTES = 60;

/** A question in a batch. */
export interface Question {
  /** The question as JSON. */
  readonly text: string;
  readonly bytes: number;
  /** Whether the question consumes and has no request id. It then gets one with its first batch. */
  readonly needsId: boolean;
  /** The batch that gave it an id, and its place there. */
  batchId: string | undefined;
  place: number;
  readonly giveUpAtMs: number;
  /** Whether the question has its answer or was given up. It is then not sent any more. */
  readonly isSettled: boolean;
}

/** Queues questions for each node, and sends them in batches. */
interface Batcher<Q extends Question> {
  add(address: string, question: Q): void;
  /** Nodes whose batch is overdue, once for each batch, with its questions and the questions queued behind it. */
  overdue(): Generator<{ readonly address: string; readonly questions: readonly Q[] }, void, undefined>;
}

interface Batch<Q> {
  readonly questions: readonly Q[];
  readonly sentAtMs: number;
  /** Whether further questions waited when it was sent. */
  readonly isFull: boolean;
  wasOverdue: boolean;
}

interface AddressQueue<Q> {
  readonly address: string;
  waiting: Q[];
  readonly inFlight: Set<Batch<Q>>;
  pumpsSoon: boolean;
}

/** @param completed called once for each batch */
export function createBatcher<Q extends Question>(
  { transport, time, newId }: { transport: Transport; time: Time; newId: () => string },
  completed: (address: string, questions: readonly Q[], exchanged: Exchanged) => void,
): Batcher<Q> {
  const queues = new Map<string, AddressQueue<Q>>();

  function queueTo(address: string): AddressQueue<Q> {
    let queue = queues.get(address);
    if (queue === undefined)
      queues.set(address, (queue = { address, waiting: [], inFlight: new Set(), pumpsSoon: false }));
    return queue;
  }

  /**
   * Whether a batch may be sent. An idle node is asked at once. A second batch goes only if it is at least as large as
   * the one in flight. Otherwise the questions of a busy client would split into many small batches, and each batch
   * costs as much as the decisions on dozens of questions. Questions for which a full batch has no room need not wait.
   */
  function maySend({ waiting, inFlight }: AddressQueue<Q>): boolean {
    if (waiting.length === 0 || inFlight.size >= MAX_IN_FLIGHT) return false;
    for (const { questions, isFull, wasOverdue } of inFlight)
      if (!isFull && !wasOverdue && questions.length > waiting.length) return false;
    return true;
  }

  function pump(queue: AddressQueue<Q>): void {
    while (maySend(queue)) {
      const questions = takeBatch(queue);
      if (questions.length > 0) void send(queue, questions);
    }
    if (queue.waiting.length === 0 && queue.inFlight.size === 0) queues.delete(queue.address);
  }

  async function send(queue: AddressQueue<Q>, questions: readonly Q[]): Promise<void> {
    const nowMs = time.nowMs();
    const isFull = queue.waiting.length > 0;
    const batch: Batch<Q> = { questions, sentAtMs: nowMs, isFull, wasOverdue: false };
    queue.inFlight.add(batch);
    const body = bodyOf(questions, newId());
    // The last question has the latest deadline.
    const leftMs = Math.max(1, questions.at(-1)!.giveUpAtMs - nowMs);
    const exchanged = await transport.send(queue.address, { method: 'POST', path: '/v1/allow/batch', body }, leftMs);
    queue.inFlight.delete(batch);
    completed(queue.address, questions, exchanged);
    pump(queue);
  }

  return {
    add(address, question) {
      const queue = queueTo(address);
      queue.waiting.push(question);
      if (queue.pumpsSoon) return;
      queue.pumpsSoon = true;
      time.soon(() => {
        queue.pumpsSoon = false;
        pump(queue);
      });
    },
    *overdue() {
      const nowMs = time.nowMs();
      for (const queue of queues.values()) {
        for (const batch of queue.inFlight) {
          if (batch.wasOverdue || nowMs - batch.sentAtMs < OVERDUE_MS) continue;
          batch.wasOverdue = true;
          yield { address: queue.address, questions: [...batch.questions, ...queue.waiting] };
          // There may be no other node to ask.
          pump(queue);
        }
      }
    },
  };
}

/**
 * Writes the body of a batch, and gives ids to the questions that need one. The id of a question stays when the question
 * is sent again, so it is charged once. One id for all questions of a batch costs the nodes much less than one each.
 */
function bodyOf(questions: readonly Question[], batchId: string): string {
  let list = '';
  for (let place = 0; place < questions.length; place += 1) {
    const question = questions[place]!;
    if (place > 0) list += ',';
    if (question.batchId !== undefined) {
      list += withRequestId(question.text, batchItemId(question.batchId, question.place));
      continue;
    }
    list += question.text;
    if (!question.needsId) continue;
    question.batchId = batchId;
    question.place = place;
  }
  return `{"requestId":"${batchId}","requests":[${list}]}`;
}

/** Takes as many questions as one body may hold, and drops those that are settled. */
function takeBatch<Q extends Question>(queue: AddressQueue<Q>): Q[] {
  const questions: Q[] = [];
  let bytes = FRAME_BYTES;
  let taken = 0;
  for (const question of queue.waiting) {
    if (!question.isSettled) {
      const added = question.bytes + (question.batchId === undefined ? 1 : REQUEST_ID_BYTES);
      if (questions.length === MAX_BATCH || bytes + added > MAX_BATCH_BYTES) break;
      questions.push(question);
      bytes += added;
    }
    taken += 1;
  }
  queue.waiting = taken === queue.waiting.length ? [] : queue.waiting.slice(taken);
  return questions;
}

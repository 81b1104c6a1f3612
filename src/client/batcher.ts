import { MAX_BATCH, MAX_BATCH_BYTES } from '../core/request.js';
import type { Time } from './time.js';
import type { Exchanged, Transport } from './transport.js';

/** Batches under way to one node; what comes meanwhile goes in the next. So an idle node is asked at once, a busy one in bulk. */
const MAX_IN_FLIGHT = 2;
/** A batch that has no answer by then is overdue. */
const PATIENCE_MS = 250;
/** `{"requests":[]}`, and a comma for each. */
const FRAME_BYTES = 15;

/** What a batch is made of. */
export interface Question {
  /** JSON. */
  readonly text: string;
  readonly bytes: number;
  readonly giveUpAtMs: number;
  /** Whether it was answered elsewhere, or given up: then it is not sent any more. */
  readonly isSettled: boolean;
}

/** The way to each node: what waits for it, and the batches that are under way. */
interface Batcher<Q extends Question> {
  add(address: string, question: Q): void;
  /** Nodes that have not answered a batch for long, each batch once, with all that waits for it and behind it. */
  overdue(): Generator<{ readonly address: string; readonly questions: readonly Q[] }, void, undefined>;
}

interface Batch<Q> {
  readonly questions: readonly Q[];
  readonly sentAtMs: number;
  wasOverdue: boolean;
}

interface AddressQueue<Q> {
  readonly address: string;
  waiting: Q[];
  readonly inFlight: Set<Batch<Q>>;
  pumpsSoon: boolean;
}

/** @param ended called once for each batch */
export function createBatcher<Q extends Question>(
  { transport, time }: { transport: Transport; time: Time },
  ended: (address: string, questions: readonly Q[], exchanged: Exchanged) => void,
): Batcher<Q> {
  const queues = new Map<string, AddressQueue<Q>>();

  function queueTo(address: string): AddressQueue<Q> {
    let queue = queues.get(address);
    if (queue === undefined)
      queues.set(address, (queue = { address, waiting: [], inFlight: new Set(), pumpsSoon: false }));
    return queue;
  }

  function pump(queue: AddressQueue<Q>): void {
    while (queue.waiting.length > 0 && queue.inFlight.size < MAX_IN_FLIGHT) {
      const questions = takeBatch(queue);
      if (questions.length > 0) void send(queue, questions);
    }
    if (queue.waiting.length === 0 && queue.inFlight.size === 0) queues.delete(queue.address);
  }

  async function send(queue: AddressQueue<Q>, questions: readonly Q[]): Promise<void> {
    const nowMs = time.nowMs();
    const batch: Batch<Q> = { questions, sentAtMs: nowMs, wasOverdue: false };
    queue.inFlight.add(batch);
    const body = `{"requests":[${questions.map(({ text }) => text).join(',')}]}`;
    // The last of them has the most time left.
    const leftMs = Math.max(1, questions.at(-1)!.giveUpAtMs - nowMs);
    const exchanged = await transport.send(queue.address, { method: 'POST', path: '/v1/allow/batch', body }, leftMs);
    queue.inFlight.delete(batch);
    ended(queue.address, questions, exchanged);
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
      for (const { address, inFlight, waiting } of queues.values()) {
        for (const batch of inFlight) {
          if (batch.wasOverdue || nowMs - batch.sentAtMs < PATIENCE_MS) continue;
          batch.wasOverdue = true;
          yield { address, questions: [...batch.questions, ...waiting] };
        }
      }
    },
  };
}

/** As many of the queue as one body may hold, without those that are settled. */
function takeBatch<Q extends Question>(queue: AddressQueue<Q>): Q[] {
  const questions: Q[] = [];
  let bytes = FRAME_BYTES;
  let taken = 0;
  for (const question of queue.waiting) {
    if (!question.isSettled) {
      if (questions.length === MAX_BATCH || bytes + question.bytes + 1 > MAX_BATCH_BYTES) break;
      questions.push(question);
      bytes += question.bytes + 1;
    }
    taken += 1;
  }
  queue.waiting = taken === queue.waiting.length ? [] : queue.waiting.slice(taken);
  return questions;
}

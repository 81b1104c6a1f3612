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
  queue: Q[];
  readonly inFlight: Set<Batch<Q>>;
  pumpsSoon: boolean;
}

/** @param ended called once for each batch */
export function createBatcher<Q extends Question>(
  { transport, time }: { transport: Transport; time: Time },
  ended: (address: string, questions: readonly Q[], exchanged: Exchanged) => void,
): Batcher<Q> {
  const lanes = new Map<string, AddressQueue<Q>>();

  function laneTo(address: string): AddressQueue<Q> {
    let lane = lanes.get(address);
    if (lane === undefined) lanes.set(address, (lane = { address, queue: [], inFlight: new Set(), pumpsSoon: false }));
    return lane;
  }

  function pump(lane: AddressQueue<Q>): void {
    while (lane.queue.length > 0 && lane.inFlight.size < MAX_IN_FLIGHT) {
      const questions = takeBatch(lane);
      if (questions.length > 0) void send(lane, questions);
    }
    if (lane.queue.length === 0 && lane.inFlight.size === 0) lanes.delete(lane.address);
  }

  async function send(lane: AddressQueue<Q>, questions: readonly Q[]): Promise<void> {
    const nowMs = time.nowMs();
    const batch: Batch<Q> = { questions, sentAtMs: nowMs, wasOverdue: false };
    lane.inFlight.add(batch);
    const body = `{"requests":[${questions.map(({ text }) => text).join(',')}]}`;
    // The last of them has the most time left.
    const leftMs = Math.max(1, questions.at(-1)!.giveUpAtMs - nowMs);
    const exchanged = await transport.send(lane.address, { method: 'POST', path: '/v1/allow/batch', body }, leftMs);
    lane.inFlight.delete(batch);
    ended(lane.address, questions, exchanged);
    pump(lane);
  }

  return {
    add(address, question) {
      const lane = laneTo(address);
      lane.queue.push(question);
      if (lane.pumpsSoon) return;
      lane.pumpsSoon = true;
      time.soon(() => {
        lane.pumpsSoon = false;
        pump(lane);
      });
    },
    *overdue() {
      const nowMs = time.nowMs();
      for (const { address, inFlight, queue } of lanes.values()) {
        for (const batch of inFlight) {
          if (batch.wasOverdue || nowMs - batch.sentAtMs < PATIENCE_MS) continue;
          batch.wasOverdue = true;
          yield { address, questions: [...batch.questions, ...queue] };
        }
      }
    },
  };
}

/** As many of the queue as one body may hold, without those that are settled. */
function takeBatch<Q extends Question>(lane: AddressQueue<Q>): Q[] {
  const questions: Q[] = [];
  let bytes = FRAME_BYTES;
  let taken = 0;
  for (const question of lane.queue) {
    if (!question.isSettled) {
      if (questions.length === MAX_BATCH || bytes + question.bytes + 1 > MAX_BATCH_BYTES) break;
      questions.push(question);
      bytes += question.bytes + 1;
    }
    taken += 1;
  }
  lane.queue = taken === lane.queue.length ? [] : lane.queue.slice(taken);
  return questions;
}

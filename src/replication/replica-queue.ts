import type { NodeId } from '../limits/ring/ring.js';
import type { Ask } from '../protocol/peer-transport.js';
import type { Clock, Timers } from '../lib/clock.js';
import type { Client } from '../state/bucket-table.js';
import { MAX_COPIES_BYTES, type Copies } from '../state/copies.js';

/** Messages under way to one member. Clients that are added meanwhile go in the next message. */
const MAX_IN_FLIGHT = 2;
/** Clients in one message. */
const MAX_BATCH = 1_000;

/** Batches of copies whose sender waits for the answer. Copies that one turn of the event loop asks for go together. */
interface ReplicaQueue {
  /**
   * Sends a member a copy of a client, with its state as of now or later.
   * @returns whether the member has acknowledged the copy; settles within `timeoutMs`
   */
  send(to: NodeId, clientId: string): Promise<boolean>;
}

interface Batch {
  readonly clientIds: Set<string>;
  readonly sinceMs: number;
  readonly kept: Promise<boolean>;
  readonly resolve: (kept: boolean) => void;
}

interface Lane {
  readonly to: NodeId;
  readonly waiting: Batch[];
  inFlight: number;
  pumpsSoon: boolean;
}

interface ReplicaQueueDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly copies: Pick<Copies, 'table' | 'createBatch'>;
  readonly ask: Ask;
  /** Whether a copy of the client for this node shows leases. */
  readonly showsLeases: (to: NodeId, client: Client) => boolean;
}

/** @param timeoutMs how long a copy may wait for its turn and its acknowledgement together */
export function createReplicaQueue(deps: ReplicaQueueDeps, { timeoutMs }: { timeoutMs: number }): ReplicaQueue {
  const { clock, timers, copies, ask, showsLeases } = deps;
  const lanes = new Map<NodeId, Lane>();

  function laneOf(to: NodeId): Lane {
    let lane = lanes.get(to);
    if (lane === undefined) lanes.set(to, (lane = { to, waiting: [], inFlight: 0, pumpsSoon: false }));
    return lane;
  }

  function pump(lane: Lane): void {
    while (lane.inFlight < MAX_IN_FLIGHT) {
      const batch = lane.waiting.shift();
      if (batch === undefined) break;
      if (clock.nowMs() - batch.sinceMs >= timeoutMs) {
        batch.resolve(false);
        continue;
      }
      lane.inFlight += 1;
      void sendAll(lane.to, [...batch.clientIds], batch.sinceMs + timeoutMs).then((kept) => {
        lane.inFlight -= 1;
        batch.resolve(kept);
        pump(lane);
      });
    }
    if (lane.inFlight === 0 && lane.waiting.length === 0) lanes.delete(lane.to);
  }

  async function sendAll(to: NodeId, clientIds: readonly string[], untilMs: number): Promise<boolean> {
    const parts: Uint8Array[] = [];
    const batch = copies.createBatch();
    for (const clientId of clientIds) {
      const client = copies.table.peek(clientId);
      if (client !== undefined) batch.add(client, false, showsLeases(to, client));
      if (batch.bytes >= MAX_COPIES_BYTES) parts.push(batch.take());
    }
    // A message goes out even if nothing is left to copy. Its answer says whether this node may still decide.
    if (batch.clients > 0 || parts.length === 0) parts.push(batch.take());
    for (const clients of parts) {
      const asked = await ask(to, { kind: 'replicate', clients }, Math.max(1, untilMs - clock.nowMs()));
      if (asked.kind !== 'answer' || asked.body.kind !== 'kept') return false;
    }
    return true;
  }

  return {
    send(to, clientId) {
      const lane = laneOf(to);
      let batch = lane.waiting.at(-1);
      if (batch === undefined || batch.clientIds.size >= MAX_BATCH)
        lane.waiting.push((batch = createBatch(clock.nowMs())));
      batch.clientIds.add(clientId);
      if (!lane.pumpsSoon) {
        lane.pumpsSoon = true;
        timers.soon(() => {
          lane.pumpsSoon = false;
          pump(lane);
        });
      }
      return batch.kept;
    },
  };
}

function createBatch(sinceMs: number): Batch {
  let resolve: (kept: boolean) => void = () => undefined;
  const kept = new Promise<boolean>((settle) => (resolve = settle));
  return { clientIds: new Set(), sinceMs, kept, resolve };
}

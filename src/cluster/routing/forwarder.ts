import type { Check } from '../../core/decide.js';
import type { NodeId } from '../../core/ring.js';
import type { Membership } from '../membership/membership.js';
import type { DecidedByPeer, PeerMessage } from '../messages.js';
import type { Ask, Clock, Timers } from '../ports.js';

/** A peer that has not answered by then is asked again, under the same batch id. */
const RESEND_AFTER_MS = 250;
/** How often what is under way is looked at: the resolution of every wait here. */
const LOOK_INTERVAL_MS = 25;
/** Batches under way to one peer; what comes meanwhile goes in the next. So an idle peer is asked at once, a busy one in bulk. */
const MAX_IN_FLIGHT = 2;
const MAX_BATCH = 512;
/** Checks that wait for one peer; above, they are decided without it. */
const MAX_QUEUE = 10_000;

export type Forwarded =
  | { readonly kind: 'decided'; readonly by: NodeId; readonly result: DecidedByPeer }
  /** While it waited, this node became the one to decide. */
  | { readonly kind: 'mine' }
  /** Nobody who may decide could be asked in time. */
  | { readonly kind: 'unavailable' };

interface ForwarderDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly membership: Membership;
  readonly ask: Ask;
  /** Who is to decide for a client, as far as this node knows now. */
  readonly decider: (clientId: string) => NodeId | undefined;
}

export interface Forwarder {
  forward(check: Check, to: NodeId): Promise<Forwarded>;
  /** Batches and checks under way or waiting, for the metrics. */
  readonly waiting: number;
  close(): void;
}

interface Item {
  readonly check: Check;
  readonly giveUpAtMs: number;
  readonly resolve: (result: Forwarded) => void;
}

interface Batch {
  readonly id: string;
  readonly items: readonly Item[];
  readonly sentAtMs: number;
  resent: boolean;
  completed: boolean;
}

/** To one peer; what is answered only when a successor has acknowledged goes by itself, so that nothing else waits for it. */
interface PeerQueue {
  readonly to: NodeId;
  queue: Item[];
  readonly inFlight: Set<Batch>;
  /** Whether the queue is to be looked at once all that has arrived was read. */
  pumpsSoon: boolean;
}

/**
 * Sends checks to those who decide them, in batches, without a timer between a check and its message: those that one turn
 * of the event loop has read go together.
 * A broken or slow batch is sent once more under its id, which charges once. A peer that is down hands its checks to who
 * stands in for it; one that is only slow keeps them, as asking another while it lives could admit twice.
 */
export function createForwarder(deps: ForwarderDeps, options: { giveUpAfterMs: number }): Forwarder {
  const { clock, timers, membership, ask, decider } = deps;
  const lanes = { plain: new Map<NodeId, PeerQueue>(), replicated: new Map<NodeId, PeerQueue>() };
  const parked = new Set<Item>();
  let batches = 0;
  let stopLooking: (() => void) | undefined;

  function allLanes(): PeerQueue[] {
    return [...lanes.plain.values(), ...lanes.replicated.values()];
  }

  function enqueue(item: Item, to: NodeId): void {
    const ofKind = item.check.replicated ? lanes.replicated : lanes.plain;
    let lane = ofKind.get(to);
    if (lane === undefined) ofKind.set(to, (lane = { to, queue: [], inFlight: new Set(), pumpsSoon: false }));
    if (lane.queue.length >= MAX_QUEUE) return item.resolve({ kind: 'unavailable' });
    lane.queue.push(item);
    stopLooking ??= timers.every(LOOK_INTERVAL_MS, look);
    if (lane.pumpsSoon) return;
    lane.pumpsSoon = true;
    timers.soon(() => {
      lane.pumpsSoon = false;
      pump(lane);
    });
  }

  function pump(lane: PeerQueue): void {
    while (lane.queue.length > 0 && lane.inFlight.size < MAX_IN_FLIGHT) {
      const items = lane.queue.length <= MAX_BATCH ? lane.queue : lane.queue.slice(0, MAX_BATCH);
      lane.queue = lane.queue.length <= MAX_BATCH ? [] : lane.queue.slice(MAX_BATCH);
      const { id, incarnation } = membership.self;
      const batch: Batch = {
        id: `${id} ${incarnation} ${++batches}`,
        items,
        sentAtMs: clock.nowMs(),
        resent: false,
        completed: false,
      };
      lane.inFlight.add(batch);
      send(lane, batch);
    }
  }

  function send(lane: PeerQueue, batch: Batch): void {
    const refused = membership.refusedIds();
    const message: PeerMessage = {
      kind: 'decide',
      batchId: batch.id,
      refused,
      checks: batch.items.map(({ check }) => check),
    };
    void ask(lane.to, message, options.giveUpAfterMs).then((asked) => {
      if (batch.completed) return;
      if (asked.kind === 'answer' && asked.body.kind === 'decided') {
        complete(lane, batch, asked.body.results);
      } else if (asked.kind === 'broken' && !batch.resent) {
        batch.resent = true;
        send(lane, batch);
      } else {
        complete(lane, batch, []);
      }
    });
  }

  /** Ends a batch: what has no result goes on to whoever is to decide now. */
  function complete(lane: PeerQueue, batch: Batch, results: readonly (DecidedByPeer | null)[]): void {
    batch.completed = true;
    lane.inFlight.delete(batch);
    batch.items.forEach((item, i) => {
      const result = results[i] ?? null;
      if (result === null) reroute(item, lane.to);
      else item.resolve({ kind: 'decided', by: lane.to, result });
    });
    pump(lane);
  }

  function reroute(item: Item, notTo: NodeId): void {
    const to = decider(item.check.clientId);
    if (to === membership.self.id) item.resolve({ kind: 'mine' });
    // The two do not agree yet on who decides, or nobody is there: look again in a moment.
    else if (to === undefined || to === notTo) parked.add(item);
    else enqueue(item, to);
  }

  function look(): void {
    const nowMs = clock.nowMs();
    for (const item of [...parked]) {
      const to = decider(item.check.clientId);
      if (to === undefined && nowMs < item.giveUpAtMs) continue;
      parked.delete(item);
      if (to === membership.self.id) item.resolve({ kind: 'mine' });
      else if (to === undefined || nowMs >= item.giveUpAtMs) item.resolve({ kind: 'unavailable' });
      else enqueue(item, to);
    }
    for (const lane of allLanes()) {
      if (lane.inFlight.size === 0 && lane.queue.length === 0) continue;
      if (membership.isDown(lane.to)) {
        const { queue } = lane;
        lane.queue = [];
        for (const batch of lane.inFlight) complete(lane, batch, []);
        for (const item of queue) reroute(item, lane.to);
        continue;
      }
      for (const batch of lane.inFlight) {
        if (nowMs >= batch.items[0]!.giveUpAtMs) complete(lane, batch, []);
        else if (!batch.resent && nowMs - batch.sentAtMs >= RESEND_AFTER_MS) {
          batch.resent = true;
          send(lane, batch);
        }
      }
      const late = lane.queue.filter((item) => nowMs >= item.giveUpAtMs);
      if (late.length > 0) lane.queue = lane.queue.filter((item) => nowMs < item.giveUpAtMs);
      for (const item of late) item.resolve({ kind: 'unavailable' });
    }
    for (const ofKind of Object.values(lanes)) {
      for (const [to, { inFlight, queue }] of ofKind) {
        if (membership.stateOf(to) === undefined && inFlight.size === 0 && queue.length === 0) ofKind.delete(to);
      }
    }
    if (countWaiting() > 0) return;
    stopLooking?.();
    stopLooking = undefined;
  }

  function countWaiting(): number {
    let waiting = parked.size;
    for (const { queue, inFlight } of allLanes()) {
      waiting += queue.length;
      for (const { items } of inFlight) waiting += items.length;
    }
    return waiting;
  }

  return {
    forward: (check, to) =>
      new Promise((resolve) => {
        enqueue({ check, giveUpAtMs: clock.nowMs() + options.giveUpAfterMs, resolve }, to);
      }),
    get waiting() {
      return countWaiting();
    },
    close() {
      stopLooking?.();
      for (const item of parked) item.resolve({ kind: 'unavailable' });
      for (const lane of allLanes()) {
        for (const { items } of lane.inFlight) for (const item of items) item.resolve({ kind: 'unavailable' });
        for (const item of lane.queue) item.resolve({ kind: 'unavailable' });
      }
      parked.clear();
      for (const ofKind of Object.values(lanes)) ofKind.clear();
    },
  };
}

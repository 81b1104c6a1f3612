import type { Check } from '../../limits/decide/decide.js';
import type { NodeId, Placed } from '../../limits/ring/ring.js';
import type { Membership } from '../../membership/membership.js';
import type { CheckResult, DecidedByPeer, PeerMessage } from '../../protocol/messages.js';
import type { Ask } from '../../protocol/peer-transport.js';
import type { Clock, Timers } from '../../lib/clock.js';

/** A peer that has not answered by then is asked again, under the same batch id. */
const RESEND_AFTER_MS = 250;
/** Interval at which waiting checks and batches are checked: the resolution of every wait here. */
const CHECK_INTERVAL_MS = 25;
/** Batches in flight to one peer; later checks go in the next. So an idle peer is asked at once, a busy one in bulk. */
const MAX_IN_FLIGHT = 2;
const MAX_BATCH = 512;
/** Checks that wait for one peer, by default. A check beyond is answered as overload. */
const MAX_QUEUE = 10_000;

/** How a forward ended. */
export type Forwarded =
  | { readonly kind: 'decided'; readonly by: NodeId; readonly result: DecidedByPeer }
  /** Meanwhile this node became the one that decides. */
  | { readonly kind: 'mine' }
  /** No node that may decide could be asked in time. */
  | { readonly kind: 'unavailable' }
  /** Too many checks wait for the node that decides, here or there. It charged nothing. */
  | { readonly kind: 'overloaded' };

const MINE: Forwarded = { kind: 'mine' };
const UNAVAILABLE: Forwarded = { kind: 'unavailable' };
const OVERLOADED: Forwarded = { kind: 'overloaded' };

/** Receives the ends of the forwards of one message, each under the place of its check in that message. */
export interface ForwardSink {
  /** Called once for each check, perhaps before `forward` returns. */
  forwarded(place: number, end: Forwarded): void;
}

interface ForwarderDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly membership: Membership;
  readonly ask: Ask;
  /** The node that decides for a client, as far as this node knows now. */
  readonly decider: (client: Placed) => NodeId | undefined;
}

export interface Forwarder {
  /** @param nowMs the present reading of the clock */
  forward(check: Check, to: NodeId, nowMs: number, sink: ForwardSink, place: number): void;
  /** Checks in flight or waiting, for the metrics. */
  waiting(): number;
  close(): void;
}

interface Item {
  readonly check: Check;
  readonly giveUpAtMs: number;
  readonly sink: ForwardSink;
  readonly place: number;
}

function complete({ sink, place }: Item, end: Forwarded): void {
  sink.forwarded(place, end);
}

interface Batch {
  readonly id: string;
  readonly items: readonly Item[];
  readonly sentAtMs: number;
  resent: boolean;
  completed: boolean;
}

/**
 * The way to one peer. Checks that wait for a replica's acknowledgement have a way of their own, so they hold up no
 * others.
 */
interface PeerQueue {
  readonly to: NodeId;
  items: Item[];
  readonly inFlight: Set<Batch>;
  /** Whether the queue is sent once all that has arrived was read. */
  sendsSoon: boolean;
}

interface ForwarderOptions {
  readonly giveUpAfterMs: number;
  readonly maxQueued?: number | undefined;
}

/**
 * Sends checks to the nodes that decide them, in batches. There is no timer between a check and its message: the checks
 * that one turn of the event loop has read go together.
 *
 * A broken or slow batch is sent once more under its id, which charges once. When a peer is down, its checks go to the
 * acting owner. A peer that is only slow keeps them, because another node could admit them a second time.
 */
export function createForwarder(deps: ForwarderDeps, options: ForwarderOptions): Forwarder {
  const { giveUpAfterMs, maxQueued = MAX_QUEUE } = options;
  const { clock, timers, membership, ask, decider } = deps;
  const queues = { plain: new Map<NodeId, PeerQueue>(), replicated: new Map<NodeId, PeerQueue>() };
  /** Checks that no node takes at the moment. */
  const parked = new Set<Item>();
  let batches = 0;
  let stopChecking: (() => void) | undefined;

  function allQueues(): PeerQueue[] {
    return [...queues.plain.values(), ...queues.replicated.values()];
  }

  function enqueue(item: Item, to: NodeId): void {
    const byPeer = item.check.replicated ? queues.replicated : queues.plain;
    let queue = byPeer.get(to);
    if (queue === undefined) byPeer.set(to, (queue = { to, items: [], inFlight: new Set(), sendsSoon: false }));
    if (queue.items.length >= maxQueued) return complete(item, OVERLOADED);
    queue.items.push(item);
    stopChecking ??= timers.every(CHECK_INTERVAL_MS, checkWaits);
    if (queue.sendsSoon) return;
    const waiting = queue;
    waiting.sendsSoon = true;
    timers.soon(() => {
      waiting.sendsSoon = false;
      sendNext(waiting);
    });
  }

  function sendNext(queue: PeerQueue): void {
    while (queue.items.length > 0 && queue.inFlight.size < MAX_IN_FLIGHT) {
      const items = queue.items.length <= MAX_BATCH ? queue.items : queue.items.slice(0, MAX_BATCH);
      queue.items = queue.items.length <= MAX_BATCH ? [] : queue.items.slice(MAX_BATCH);
      const { id, incarnation } = membership.self();
      const batch: Batch = {
        id: `${id} ${incarnation} ${++batches}`,
        items,
        sentAtMs: clock.nowMs(),
        resent: false,
        completed: false,
      };
      queue.inFlight.add(batch);
      send(queue, batch);
    }
  }

  function send(queue: PeerQueue, batch: Batch): void {
    const refused = membership.refusedIds();
    const checks = batch.items.map(({ check }) => check);
    const message: PeerMessage = { kind: 'decide', batchId: batch.id, refused, checks };
    void ask(queue.to, message, giveUpAfterMs).then((asked) => {
      if (batch.completed) return;
      if (asked.kind === 'answer' && asked.body.kind === 'decided') {
        completeBatch(queue, batch, asked.body.results);
      } else if (asked.kind === 'broken' && !batch.resent) {
        batch.resent = true;
        send(queue, batch);
      } else {
        completeBatch(queue, batch, []);
      }
    });
  }

  /** Checks without a result go to the node that decides them now. */
  function completeBatch(queue: PeerQueue, batch: Batch, results: readonly CheckResult[]): void {
    batch.completed = true;
    queue.inFlight.delete(batch);
    batch.items.forEach((item, i) => {
      const result = results[i] ?? null;
      if (result === null) reroute(item, queue.to);
      else if (result === 'overloaded') complete(item, OVERLOADED);
      else complete(item, { kind: 'decided', by: queue.to, result });
    });
    sendNext(queue);
  }

  function reroute(item: Item, notTo: NodeId): void {
    const to = decider(item.check);
    if (to === membership.self().id) complete(item, MINE);
    // Both nodes name the other, or none decides. They will agree in a moment.
    else if (to === undefined || to === notTo) parked.add(item);
    else enqueue(item, to);
  }

  function checkWaits(): void {
    const nowMs = clock.nowMs();
    checkParked(nowMs);
    for (const queue of allQueues()) checkQueue(queue, nowMs);
    for (const byPeer of Object.values(queues)) {
      for (const [to, { inFlight, items }] of byPeer) {
        if (membership.stateOf(to) === undefined && inFlight.size === 0 && items.length === 0) byPeer.delete(to);
      }
    }
    if (countWaiting() > 0) return;
    stopChecking?.();
    stopChecking = undefined;
  }

  function checkParked(nowMs: number): void {
    for (const item of [...parked]) {
      const to = decider(item.check);
      if (to === undefined && nowMs < item.giveUpAtMs) continue;
      parked.delete(item);
      if (to === membership.self().id) complete(item, MINE);
      else if (to === undefined || nowMs >= item.giveUpAtMs) complete(item, UNAVAILABLE);
      else enqueue(item, to);
    }
  }

  function checkQueue(queue: PeerQueue, nowMs: number): void {
    const { to, items, inFlight } = queue;
    if (inFlight.size === 0 && items.length === 0) return;
    if (membership.isDown(to)) {
      queue.items = [];
      for (const batch of inFlight) completeBatch(queue, batch, []);
      for (const item of items) reroute(item, to);
      return;
    }
    for (const batch of inFlight) {
      if (nowMs >= batch.items[0]!.giveUpAtMs) completeBatch(queue, batch, []);
      else if (!batch.resent && nowMs - batch.sentAtMs >= RESEND_AFTER_MS) {
        batch.resent = true;
        send(queue, batch);
      }
    }
    const late = queue.items.filter((item) => nowMs >= item.giveUpAtMs);
    if (late.length > 0) queue.items = queue.items.filter((item) => nowMs < item.giveUpAtMs);
    for (const item of late) complete(item, UNAVAILABLE);
  }

  function countWaiting(): number {
    let waiting = parked.size;
    for (const { items, inFlight } of allQueues()) {
      waiting += items.length;
      for (const batch of inFlight) waiting += batch.items.length;
    }
    return waiting;
  }

  return {
    forward(check, to, nowMs, sink, place) {
      enqueue({ check, giveUpAtMs: nowMs + giveUpAfterMs, sink, place }, to);
    },
    waiting: () => countWaiting(),
    close() {
      stopChecking?.();
      const items = [...parked];
      for (const queue of allQueues()) {
        for (const batch of queue.inFlight) items.push(...batch.items);
        items.push(...queue.items);
      }
      parked.clear();
      for (const byPeer of Object.values(queues)) byPeer.clear();
      for (const item of items) complete(item, UNAVAILABLE);
    },
  };
}

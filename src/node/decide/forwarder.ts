import type { BatchItem } from '../../limits/decide/check-batch.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Membership } from '../../membership/membership.js';
import type { CheckResult, DecidedByPeer, PeerMessage } from '../../protocol/messages.js';
import type { Ask } from '../../protocol/peer-transport.js';
import type { Clock, Timers } from '../../lib/clock.js';
import type { Router } from '../../membership/route.js';

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

/** Receives the ends of forwards. */
export interface ForwardSink {
  /** Called once for each check, perhaps before `forward` returns. */
  forwarded(item: BatchItem, end: Forwarded): void;
}

interface Item {
  readonly item: BatchItem;
  readonly giveUpAtMs: number;
  readonly sink: ForwardSink;
}

function complete({ item, sink }: Item, end: Forwarded): void {
  sink.forwarded(item, end);
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

/**
 * Sends checks to the nodes that decide them, in batches. There is no timer between a check and its message: the checks
 * that one turn of the event loop has read go together.
 *
 * A broken or slow batch is sent once more under its id, which charges once. When a peer is down, its checks go to the
 * acting owner. A peer that is only slow keeps them, because another node could admit them a second time.
 */
export class Forwarder {
  private readonly queues = { plain: new Map<NodeId, PeerQueue>(), replicated: new Map<NodeId, PeerQueue>() };
  /** Checks that no node takes at the moment. */
  private readonly parked = new Set<Item>();
  private readonly maxQueued: number;
  private batches = 0;
  private stopChecking: (() => void) | undefined;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly membership: Membership;
      readonly ask: Ask;
      readonly router: Pick<Router, 'deciderOf'>;
      readonly giveUpAfterMs: number;
      readonly maxQueued?: number | undefined;
    },
  ) {
    this.maxQueued = parts.maxQueued ?? MAX_QUEUE;
  }

  /** @param nowMs the present reading of the clock */
  forward(item: BatchItem, to: NodeId, nowMs: number, sink: ForwardSink): void {
    this.enqueue({ item, giveUpAtMs: nowMs + this.parts.giveUpAfterMs, sink }, to);
  }

  /** Checks in flight or waiting, for the metrics. */
  waiting(): number {
    let waiting = this.parked.size;
    for (const { items, inFlight } of this.allQueues()) {
      waiting += items.length;
      for (const batch of inFlight) waiting += batch.items.length;
    }
    return waiting;
  }

  close(): void {
    this.stopChecking?.();
    const items = [...this.parked];
    for (const queue of this.allQueues()) {
      for (const batch of queue.inFlight) items.push(...batch.items);
      items.push(...queue.items);
    }
    this.parked.clear();
    for (const byPeer of Object.values(this.queues)) byPeer.clear();
    for (const item of items) complete(item, UNAVAILABLE);
  }

  private allQueues(): PeerQueue[] {
    return [...this.queues.plain.values(), ...this.queues.replicated.values()];
  }

  private enqueue(item: Item, to: NodeId): void {
    const { timers } = this.parts;
    const byPeer = item.item.params.replicated ? this.queues.replicated : this.queues.plain;
    let queue = byPeer.get(to);
    if (queue === undefined) byPeer.set(to, (queue = { to, items: [], inFlight: new Set(), sendsSoon: false }));
    if (queue.items.length >= this.maxQueued) return complete(item, OVERLOADED);
    queue.items.push(item);
    this.stopChecking ??= timers.every(CHECK_INTERVAL_MS, () => this.checkWaits());
    if (queue.sendsSoon) return;
    const waiting = queue;
    waiting.sendsSoon = true;
    timers.soon(() => {
      waiting.sendsSoon = false;
      this.sendNext(waiting);
    });
  }

  private sendNext(queue: PeerQueue): void {
    const { membership, clock } = this.parts;
    while (queue.items.length > 0 && queue.inFlight.size < MAX_IN_FLIGHT) {
      const items = queue.items.length <= MAX_BATCH ? queue.items : queue.items.slice(0, MAX_BATCH);
      queue.items = queue.items.length <= MAX_BATCH ? [] : queue.items.slice(MAX_BATCH);
      const { id, incarnation } = membership.self();
      const batchId = `${id} ${incarnation} ${++this.batches}`;
      const batch: Batch = { id: batchId, items, sentAtMs: clock.nowMs(), resent: false, completed: false };
      queue.inFlight.add(batch);
      this.send(queue, batch);
    }
  }

  private send(queue: PeerQueue, batch: Batch): void {
    const { membership, ask, giveUpAfterMs } = this.parts;
    const refused = membership.refusedIds();
    const checks = batch.items.map(({ item }) => item.check);
    const message: PeerMessage = { kind: 'decide', batchId: batch.id, refused, checks };
    void ask(queue.to, message, giveUpAfterMs).then((asked) => {
      if (batch.completed) return;
      if (asked.kind === 'answer' && asked.body.kind === 'decided') {
        this.completeBatch(queue, batch, asked.body.results);
      } else if (asked.kind === 'broken' && !batch.resent) {
        batch.resent = true;
        this.send(queue, batch);
      } else {
        this.completeBatch(queue, batch, []);
      }
    });
  }

  /** Checks without a result go to the node that decides them now. */
  private completeBatch(queue: PeerQueue, batch: Batch, results: readonly CheckResult[]): void {
    batch.completed = true;
    queue.inFlight.delete(batch);
    batch.items.forEach((item, i) => {
      const result = results[i] ?? null;
      if (result === null) this.reroute(item, queue.to);
      else if (result === 'overloaded') complete(item, OVERLOADED);
      else complete(item, { kind: 'decided', by: queue.to, result });
    });
    this.sendNext(queue);
  }

  private reroute(item: Item, notTo: NodeId): void {
    const to = this.parts.router.deciderOf(item.item);
    if (to === this.parts.membership.self().id) complete(item, MINE);
    // Both nodes name the other, or none decides. They will agree in a moment.
    else if (to === undefined || to === notTo) this.parked.add(item);
    else this.enqueue(item, to);
  }

  private checkWaits(): void {
    const { membership, clock } = this.parts;
    const nowMs = clock.nowMs();
    this.checkParked(nowMs);
    for (const queue of this.allQueues()) this.checkQueue(queue, nowMs);
    for (const byPeer of Object.values(this.queues)) {
      for (const [to, { inFlight, items }] of byPeer) {
        if (membership.stateOf(to) === undefined && inFlight.size === 0 && items.length === 0) byPeer.delete(to);
      }
    }
    if (this.waiting() > 0) return;
    this.stopChecking?.();
    this.stopChecking = undefined;
  }

  private checkParked(nowMs: number): void {
    for (const item of [...this.parked]) {
      const to = this.parts.router.deciderOf(item.item);
      if (to === undefined && nowMs < item.giveUpAtMs) continue;
      this.parked.delete(item);
      if (to === this.parts.membership.self().id) complete(item, MINE);
      else if (to === undefined || nowMs >= item.giveUpAtMs) complete(item, UNAVAILABLE);
      else this.enqueue(item, to);
    }
  }

  private checkQueue(queue: PeerQueue, nowMs: number): void {
    const { to, items, inFlight } = queue;
    if (inFlight.size === 0 && items.length === 0) return;
    if (this.parts.membership.isDown(to)) {
      queue.items = [];
      for (const batch of inFlight) this.completeBatch(queue, batch, []);
      for (const item of items) this.reroute(item, to);
      return;
    }
    for (const batch of inFlight) {
      if (nowMs >= batch.items[0]!.giveUpAtMs) this.completeBatch(queue, batch, []);
      else if (!batch.resent && nowMs - batch.sentAtMs >= RESEND_AFTER_MS) {
        batch.resent = true;
        this.send(queue, batch);
      }
    }
    const late = queue.items.filter((item) => nowMs >= item.giveUpAtMs);
    if (late.length > 0) queue.items = queue.items.filter((item) => nowMs < item.giveUpAtMs);
    for (const item of late) complete(item, UNAVAILABLE);
  }
}

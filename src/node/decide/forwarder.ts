import type { BatchItem } from '../../limits/decide/check-batch.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Membership } from '../../membership/membership.js';
import type { CheckResult, DecidedByPeer, PeerMessage, Ask } from '../../protocol/messages.js';
import { BatchingQueue, type Batch } from '../../lib/batching-queue.js';
import type { Clock, Timers } from '../../lib/system.js';
import type { Router } from '../../membership/route.js';

/** A peer that has not answered by then is asked again, under the same message id. */
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

/** A check on its way to another node. */
interface Forward {
  readonly item: BatchItem;
  readonly giveUpAtMs: number;
  readonly sink: ForwardSink;
}

function complete({ item, sink }: Forward, end: Forwarded): void {
  sink.forwarded(item, end);
}

/**
 * Sends checks to the nodes that decide them, in batches. There is no timer between a check and its message: the checks
 * that one turn of the event loop has read go together.
 *
 * A broken or slow batch is sent once more under its id, which charges once. When a peer is down, its checks go to the
 * acting owner. A peer that is only slow keeps them, because another node could admit them a second time.
 */
export class Forwarder {
  private readonly plain: BatchingQueue<Forward>;
  /** Checks that wait for a replica's acknowledgement have a way of their own, so they hold up no others. */
  private readonly replicated: BatchingQueue<Forward>;
  /** Checks that no node takes at the moment. */
  private readonly parked = new Set<Forward>();
  private readonly messageIds = new WeakMap<Batch<Forward>, string>();
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
      /** Checks that wait for one peer. A check beyond is answered as overload. */
      readonly maxQueued?: number | undefined;
    },
  ) {
    this.plain = this.createQueue();
    this.replicated = this.createQueue();
  }

  /** @param nowMs the present reading of the clock */
  forward(item: BatchItem, to: NodeId, nowMs: number, sink: ForwardSink): void {
    this.enqueue({ item, giveUpAtMs: nowMs + this.parts.giveUpAfterMs, sink }, to);
  }

  /** Checks in flight or waiting, for the metrics. */
  waiting(): number {
    return this.parked.size + this.plain.size() + this.replicated.size();
  }

  close(): void {
    this.stopChecking?.();
    const all = [...this.parked, ...this.plain.clear(), ...this.replicated.clear()];
    this.parked.clear();
    for (const forward of all) complete(forward, UNAVAILABLE);
  }

  private createQueue(): BatchingQueue<Forward> {
    const { clock, timers, maxQueued = MAX_QUEUE } = this.parts;
    const send = (batch: Batch<Forward>): void => this.send(queue, batch);
    const queue: BatchingQueue<Forward> = new BatchingQueue({
      clock,
      timers,
      send,
      maxInFlight: MAX_IN_FLIGHT,
      maxItems: MAX_BATCH,
      maxWaiting: maxQueued,
    });
    return queue;
  }

  private enqueue(forward: Forward, to: NodeId): void {
    const queue = forward.item.params.replicated ? this.replicated : this.plain;
    if (!queue.add(to, forward)) return complete(forward, OVERLOADED);
    this.stopChecking ??= this.parts.timers.every(CHECK_INTERVAL_MS, () => this.checkWaits());
  }

  private send(queue: BatchingQueue<Forward>, batch: Batch<Forward>): void {
    const { membership, ask, giveUpAfterMs } = this.parts;
    const checks = batch.items.map(({ item }) => item.check);
    const messageId = this.idOf(batch);
    const message: PeerMessage = { kind: 'decide', messageId, refused: membership.refusedIds(), checks };
    void ask(batch.to, message, giveUpAfterMs).then((asked) => {
      if (asked.kind === 'answer' && asked.body.kind === 'decided') {
        this.completeBatch(queue, batch, asked.body.results);
      } else if (asked.kind === 'broken' && !batch.sentTwice && queue.inFlightTo(batch.to).includes(batch)) {
        batch.sentTwice = true;
        this.send(queue, batch);
      } else {
        this.abandonBatch(queue, batch);
      }
    });
  }

  /** A batch keeps its id when it is sent again, also if this node has begun its next incarnation. */
  private idOf(batch: Batch<Forward>): string {
    let messageId = this.messageIds.get(batch);
    if (messageId === undefined) {
      const { id, incarnation } = this.parts.membership.self();
      this.messageIds.set(batch, (messageId = `${id} ${incarnation} ${++this.batches}`));
    }
    return messageId;
  }

  /** Ends a batch, once, with the results of its checks. */
  private completeBatch(queue: BatchingQueue<Forward>, batch: Batch<Forward>, results: readonly CheckResult[]): void {
    if (!queue.end(batch)) return;
    const { items, to } = batch;
    items.forEach((forward, i) => {
      const result = results[i] ?? 'not-mine';
      if (result === 'not-mine') this.reroute(forward, to);
      else if (result === 'overloaded') complete(forward, OVERLOADED);
      else complete(forward, { kind: 'decided', by: to, result });
    });
  }

  /** Ends a batch, once, that has no answer. */
  private abandonBatch(queue: BatchingQueue<Forward>, batch: Batch<Forward>): void {
    if (queue.end(batch)) for (const forward of batch.items) this.reroute(forward, batch.to);
  }

  /** Sends a check to the node that decides it now. */
  private reroute(forward: Forward, notTo: NodeId): void {
    const to = this.parts.router.deciderOf(forward.item);
    if (to === this.parts.membership.self().id) complete(forward, MINE);
    // Both nodes name the other, or none decides. They will agree in a moment.
    else if (to === undefined || to === notTo) this.parked.add(forward);
    else this.enqueue(forward, to);
  }

  private checkWaits(): void {
    const nowMs = this.parts.clock.nowMs();
    this.checkParked(nowMs);
    this.checkQueue(this.plain, nowMs);
    this.checkQueue(this.replicated, nowMs);
    if (this.waiting() > 0) return;
    this.stopChecking?.();
    this.stopChecking = undefined;
  }

  private checkParked(nowMs: number): void {
    for (const forward of [...this.parked]) {
      const to = this.parts.router.deciderOf(forward.item);
      if (to === undefined && nowMs < forward.giveUpAtMs) continue;
      this.parked.delete(forward);
      if (to === this.parts.membership.self().id) complete(forward, MINE);
      else if (to === undefined || nowMs >= forward.giveUpAtMs) complete(forward, UNAVAILABLE);
      else this.enqueue(forward, to);
    }
  }

  private checkQueue(queue: BatchingQueue<Forward>, nowMs: number): void {
    const { membership } = this.parts;
    const isLate = ({ giveUpAtMs }: Forward): boolean => nowMs >= giveUpAtMs;
    for (const to of [...queue.destinations()]) {
      const isDown = membership.isDown(to);
      const waiting = queue.withdraw(to, isDown ? undefined : isLate);
      for (const batch of queue.inFlightTo(to)) {
        if (isDown || isLate(batch.items[0]!)) this.abandonBatch(queue, batch);
      }
      for (const forward of waiting) {
        if (isDown) this.reroute(forward, to);
        else complete(forward, UNAVAILABLE);
      }
    }
    for (const batch of queue.overdue(RESEND_AFTER_MS)) this.send(queue, batch);
  }
}

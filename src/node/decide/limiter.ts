import { TokenringError } from '../../lib/error.js';
import type { Clock } from '../../lib/clock.js';
import { advance, remaining, resetMs } from '../../limits/bucket/bucket.js';
import type { BatchItem, CheckBatch } from '../../limits/decide/check-batch.js';
import type { Origin } from '../../limits/decide/decision.js';
import type { Asking, Denials } from '../../limits/decide/denials.js';
import type { BucketDescription, ClientDescription } from '../../limits/request/description.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Membership } from '../../membership/membership.js';
import { route } from '../../membership/route.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { DecisionGate } from './decision-gate.js';
import type { Fallback } from './fallback.js';
import type { Forwarded, Forwarder, ForwardSink } from './forwarder.js';
import type { Owner } from './owner.js';

/** Bound of the nodes whose origins are kept: more than a ring has that forwards to all its members. */
const MAX_ORIGINS = 1_024;

interface LimiterParts {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly gate: DecisionGate;
  /** Decides for the clients of this node. */
  readonly owner: Owner;
  /** Leased tokens, and denials that still hold: with them, this node decides for clients of others. */
  readonly leaseHolder: LeaseHolder;
  readonly denials: Denials;
  readonly forwarder: Forwarder;
  /** Decides where no node that may could be asked. */
  readonly fallback: Fallback;
  /** Called with the time of each batch before it is decided. It finds out whether this node has paused. */
  readonly detectPause: (nowMs: number) => void;
  readonly topClients: Pick<TopClients, 'count'>;
}

/** Decides checks: here where this node may, otherwise by asking the node that may. */
export class Limiter {
  private readonly origins = new Map<NodeId, { readonly owner: Origin; readonly acting: Origin }>();

  constructor(private readonly parts: LimiterParts) {}

  /**
   * Decides the checks of a batch from index `from` to before `to` that have no answer yet. Each node that decides some
   * of them is asked once. Never rejects: a check for which too many wait gets the error `overloaded`.
   * @returns `undefined` when all are decided at once
   */
  decide(batch: CheckBatch, from = 0, to = batch.size): Promise<void> | undefined {
    const { clock, gate, detectPause, owner } = this.parts;
    const nowMs = clock.nowMs();
    detectPause(nowMs);
    const opening = gate.opening();
    if (opening !== undefined) return opening.then(() => this.decide(batch, from, to));
    let pending: PendingChecks | undefined;
    for (let index = from; index < to; index += 1) {
      const item = batch.items[index]!;
      if (item.isAnswered) continue;
      const asked = this.decideOrRoute(item, nowMs);
      if (asked !== undefined || owner.mustConfirm(item))
        (pending ??= new PendingChecks(this, this.parts, nowMs)).add(item, asked);
    }
    return pending?.answered();
  }

  /** Decides a check where this node may. @returns the node to ask where it may not */
  decideOrRoute(item: BatchItem, nowMs: number): NodeId | undefined {
    const { membership, owner, leaseHolder, denials, fallback, topClients } = this.parts;
    const to = route(membership, item, nowMs);
    if (to.kind === 'mine' && !to.degraded) {
      owner.decide(item, nowMs, false);
      return undefined;
    }
    const own = leaseHolder.spend(item.check, nowMs) ?? denials.recall(item.check, nowMs);
    if (own !== undefined) {
      topClients.count(item.check, own.allowed, nowMs);
      item.decide(own, own);
      return undefined;
    }
    if (to.kind === 'forward') return to.id;
    if (to.kind === 'mine') owner.decide(item, nowMs, true);
    else fallback.decide(item);
    return undefined;
  }

  /** The same object for each decision of a node, as those of one origin are kept together. */
  originOf(owner: NodeId, degraded: boolean): Origin {
    let both = this.origins.get(owner);
    if (both === undefined) {
      if (this.origins.size >= MAX_ORIGINS) this.origins.clear();
      const of = (isDegraded: boolean): Origin => ({ owner, source: 'forwarded', degraded: isDegraded });
      this.origins.set(owner, (both = { owner: of(false), acting: of(true) }));
    }
    return degraded ? both.acting : both.owner;
  }

  /** The consumption of a client as this node knows it. Consumes nothing. */
  describe(clientId: string): ClientDescription {
    const { clock, table, membership } = this.parts;
    const nowMs = clock.nowMs();
    const buckets: BucketDescription[] = [];
    for (let bucket = table.peek(clientId)?.first; bucket !== undefined; bucket = bucket.next) {
      advance(bucket, nowMs);
      const { scope, policy, algorithm, windowMs, limit } = bucket.rule;
      const left = remaining(bucket, bucket.rule);
      buckets.push({ scope, policy, algorithm, windowMs, limit, remaining: left, resetMs: resetMs(bucket, nowMs) });
    }
    return { clientId, owner: membership.self().id, buckets };
  }
}

/** The checks of a batch that wait: for other nodes, or for a confirmation. */
class PendingChecks implements ForwardSink {
  private readonly asking: Asking;
  private unconfirmed: BatchItem[] | undefined;
  private open = 0;
  private done: (() => void) | undefined;

  constructor(
    private readonly limiter: Limiter,
    private readonly parts: LimiterParts,
    private readonly nowMs: number,
  ) {
    this.asking = parts.denials.asking(nowMs);
  }

  /** @param to the node to ask; `undefined`: the decision is there, and is to be confirmed */
  add(item: BatchItem, to: NodeId | undefined): void {
    this.open += 1;
    if (to === undefined) (this.unconfirmed ??= []).push(item);
    else this.forward(item, to, this.nowMs);
  }

  /** Resolves when all of them have their answers; called once, after the last `add`. */
  answered(): Promise<void> {
    if (this.unconfirmed !== undefined) void this.confirm(this.unconfirmed);
    if (this.open === 0) return Promise.resolve();
    return new Promise((resolve) => (this.done = resolve));
  }

  forwarded(item: BatchItem, end: Forwarded): void {
    const { denials, fallback, clock } = this.parts;
    switch (end.kind) {
      case 'mine':
        return this.restart(item);
      case 'overloaded':
        item.fail(new TokenringError('overloaded', { detail: 'too many checks wait for the owner of this client' }));
        break;
      case 'unavailable':
        fallback.decide(item);
        break;
      case 'decided': {
        const { verdict, degraded, revocable, unreserved } = end.result;
        item.decide(verdict, this.limiter.originOf(end.by, degraded));
        if (!verdict.allowed && !revocable) denials.remember(item.check, item.decision, this.asking, clock.nowMs());
        if (unreserved !== undefined) item.extras = { unreserved };
      }
    }
    this.close();
  }

  private close(): void {
    this.open -= 1;
    if (this.open === 0) this.done?.();
  }

  private async confirm(items: readonly BatchItem[]): Promise<void> {
    const { owner, fallback } = this.parts;
    const known = await owner.confirm(items);
    for (const item of items) {
      if (!owner.mayAnswer(item, known)) fallback.decide(item);
      this.close();
    }
  }

  private forward(item: BatchItem, to: NodeId, atMs: number): void {
    const { leaseHolder, forwarder } = this.parts;
    leaseHolder.forwarded(item.check, atMs);
    forwarder.forward(item, to, atMs, this);
  }

  private restart(item: BatchItem): void {
    const { clock, detectPause, gate, owner } = this.parts;
    const atMs = clock.nowMs();
    detectPause(atMs);
    const opening = gate.opening();
    if (opening !== undefined) return void opening.then(() => this.restart(item));
    const to = this.limiter.decideOrRoute(item, atMs);
    if (to !== undefined) this.forward(item, to, atMs);
    else if (owner.mustConfirm(item)) void this.confirm([item]);
    else this.close();
  }
}

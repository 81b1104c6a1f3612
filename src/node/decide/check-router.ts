import { TokenringError } from '../../lib/error.js';
import type { Clock } from '../../lib/system.js';
import type { BatchItem, CheckBatch } from '../../limits/decide/check-batch.js';
import type { Provenance } from '../../limits/decide/decision.js';
import type { Asking, Denials } from '../../limits/decide/denials.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { TopClients } from '../../limits/top-clients.js';
import type { Router } from '../../membership/route.js';
import type { LeaseHolder } from '../leases/holder.js';
import type { Fallback } from './fallback.js';
import type { Forwarded, Forwarder, ForwardSink } from './forwarder.js';
import type { Owner } from './owner.js';

/** Bound of the nodes whose origins are kept: more than a ring has that forwards to all its members. */
const MAX_PROVENANCES = 1_024;

interface CheckRouterParts {
  readonly clock: Clock;
  readonly router: Router;
  /** Decides for the clients of this node. */
  readonly owner: Owner;
  /** Leased tokens, and denials that still hold: with them, this node decides for clients of others. */
  readonly leaseHolder: LeaseHolder;
  readonly denials: Denials;
  readonly forwarder: Forwarder;
  /** Decides where no node that may could be asked. */
  readonly fallback: Fallback;
  readonly topClients: Pick<TopClients, 'count'>;
}

/** What is left to be done for a check. */
type Next =
  | { readonly kind: 'answered' }
  /** The decision is there, and other nodes must know of it before it is answered. */
  | { readonly kind: 'unconfirmed' }
  /** Another node decides. */
  | { readonly kind: 'forward'; readonly id: NodeId };

const ANSWERED: Next = { kind: 'answered' };
const UNCONFIRMED: Next = { kind: 'unconfirmed' };

/** Decides checks: here where this node may, otherwise by asking the node that may. */
export class CheckRouter {
  private readonly provenances = new Map<NodeId, { readonly owner: Provenance; readonly acting: Provenance }>();

  constructor(private readonly parts: CheckRouterParts) {}

  /**
   * Decides the checks of a batch from index `from` to before `to` that have no answer yet. Each node that decides some
   * of them is asked once. Never rejects: a check for which too many wait gets the error `overloaded`.
   * @returns `undefined` when all are decided at once
   */
  decide(batch: CheckBatch, from = 0, to = batch.size): Promise<void> | undefined {
    const { clock, router } = this.parts;
    const nowMs = clock.nowMs();
    const opening = router.opening(nowMs);
    if (opening !== undefined) return opening.then(() => this.decide(batch, from, to));
    let pending: PendingChecks | undefined;
    for (let index = from; index < to; index += 1) {
      const item = batch.items[index]!;
      if (item.isAnswered) continue;
      const next = this.answerHere(item, nowMs);
      if (next.kind !== 'answered') (pending ??= new PendingChecks(this, this.parts, nowMs)).add(item, next);
    }
    return pending?.answered();
  }

  /** Answers a check where this node may. @returns what is left to be done */
  answerHere(item: BatchItem, nowMs: number): Next {
    const { router, owner, leaseHolder, denials, fallback, topClients } = this.parts;
    const to = router.route(item, nowMs);
    if (to.kind === 'own') return owner.charge(item, nowMs, 'own') === 'unconfirmed' ? UNCONFIRMED : ANSWERED;
    const own = leaseHolder.spend(item.check, nowMs) ?? denials.recall(item.check, nowMs);
    if (own !== undefined) {
      topClients.count(item.check, own.allowed, nowMs);
      item.record(own, own);
      return ANSWERED;
    }
    if (to.kind === 'forward') return to;
    if (to.kind === 'acting') return owner.charge(item, nowMs, 'acting') === 'unconfirmed' ? UNCONFIRMED : ANSWERED;
    fallback.answer(item);
    return ANSWERED;
  }

  /** The same object for each decision of a node, as those of one origin are kept together. */
  provenanceOf(owner: NodeId, degraded: boolean): Provenance {
    let both = this.provenances.get(owner);
    if (both === undefined) {
      if (this.provenances.size >= MAX_PROVENANCES) this.provenances.clear();
      const of = (isDegraded: boolean): Provenance => ({ owner, source: 'forwarded', degraded: isDegraded });
      this.provenances.set(owner, (both = { owner: of(false), acting: of(true) }));
    }
    return degraded ? both.acting : both.owner;
  }
}

/** The checks of a batch that wait: for other nodes, or for a confirmation. */
class PendingChecks implements ForwardSink {
  private readonly asking: Asking;
  private unconfirmed: BatchItem[] | undefined;
  private open = 0;
  private done: (() => void) | undefined;

  constructor(
    private readonly checkRouter: CheckRouter,
    private readonly parts: CheckRouterParts,
    private readonly nowMs: number,
  ) {
    this.asking = parts.denials.asking(nowMs);
  }

  add(item: BatchItem, next: Exclude<Next, { kind: 'answered' }>): void {
    this.open += 1;
    if (next.kind === 'unconfirmed') (this.unconfirmed ??= []).push(item);
    else this.forward(item, next.id, this.nowMs);
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
        fallback.answer(item);
        break;
      case 'decided': {
        const { verdict, degraded, revocable, unreserved } = end.result;
        item.record(verdict, this.checkRouter.provenanceOf(end.by, degraded));
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
    const confirmed = await owner.confirm(items);
    for (const [i, item] of items.entries()) {
      if (confirmed[i] === 'withhold') fallback.answer(item);
      this.close();
    }
  }

  private forward(item: BatchItem, to: NodeId, atMs: number): void {
    const { leaseHolder, forwarder } = this.parts;
    leaseHolder.forwarded(item.check, atMs);
    forwarder.forward(item, to, atMs, this);
  }

  private restart(item: BatchItem): void {
    const { clock, router } = this.parts;
    const atMs = clock.nowMs();
    const opening = router.opening(atMs);
    if (opening !== undefined) return void opening.then(() => this.restart(item));
    const next = this.checkRouter.answerHere(item, atMs);
    if (next.kind === 'forward') this.forward(item, next.id, atMs);
    else if (next.kind === 'unconfirmed') void this.confirm([item]);
    else this.close();
  }
}

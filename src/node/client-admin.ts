import { advance, remaining, resetMs } from '../limits/bucket/bucket.js';
import type { BucketDescription, ClientDescription } from '../limits/request/description.js';
import type { Clock } from '../lib/system.js';
import type { Denials } from '../limits/decide/denials.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { WriteBehind } from './durability/write-behind.js';
import type { LeaseHolder } from './leases/holder.js';
import type { Membership } from '../membership/membership.js';
import type { Ask, PeerReply } from '../protocol/messages.js';
import type { Replicator } from '../replication/replicator.js';
import { route, type Router } from '../membership/route.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { RecentDecisions } from '../state/recent-decisions.js';
import type { Reservations } from '../state/reservations.js';

/**
 * Describes and forgets single clients, here and on other nodes.
 *
 * @param timeoutMs of each message to a peer
 */
export class ClientAdmin {
  constructor(
    private readonly deps: {
      readonly membership: Membership;
      readonly ask: Ask;
      readonly router: Router;
      readonly clock: Clock;
      readonly replicator: Pick<Replicator, 'flush'>;
      readonly table: BucketTable;
      readonly recent: RecentDecisions;
      readonly reservations: Reservations;
      readonly leaseHolder: LeaseHolder;
      readonly denials: Denials;
      readonly writeBehind: WriteBehind | undefined;
    },
    private readonly options: { timeoutMs: number },
  ) {}

  /** The consumption of a client as this node knows it. Consumes nothing. */
  describeHere(clientId: string): ClientDescription {
    const { clock, table, membership } = this.deps;
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

  /** Forgets a client on this node alone. */
  forgetHere(clientId: string): void {
    this.deps.table.delete(clientId);
    this.deps.recent.forget(clientId);
    this.deps.reservations.forget(clientId);
    this.deps.leaseHolder.forget(clientId);
    this.deps.denials.forget(clientId);
    this.deps.writeBehind?.forget(clientId);
  }

  /** Describes a client as its owner knows it; `undefined` if the owner does not answer. */
  async describe(clientId: string): Promise<ClientDescription | undefined> {
    const to = route(this.deps.membership, clientId);
    if (to.kind !== 'forward') return this.describeHere(clientId);
    const asked = await this.deps.ask(to.id, { kind: 'describe', clientId }, this.options.timeoutMs);
    return asked.kind === 'answer' && asked.body.kind === 'described' ? asked.body.client : undefined;
  }

  /** Forgets a client on every node. @returns whether all members that are up have done so */
  async forget(clientId: string): Promise<boolean> {
    // Copies on their way would bring the client back, so they arrive first.
    await this.deps.replicator.flush();
    this.forgetHere(clientId);
    const owner = this.deps.router.deciderOf(clientId);
    const others = this.deps.membership.others().filter((id) => !this.deps.membership.isDown(id));
    const isOwner = (id: NodeId): boolean => id === owner;
    // The owner forgets first. Otherwise a node that has forgotten could be sent the old denial again.
    const asked = [
      ...(await this.forgetAt(others.filter(isOwner), clientId)),
      ...(await this.forgetAt(
        others.filter((id) => !isOwner(id)),
        clientId,
      )),
    ];
    this.forgetHere(clientId);
    return asked.every(({ kind }) => kind === 'answer');
  }

  private forgetAt(ids: readonly NodeId[], clientId: string): Promise<PeerReply[]> {
    return Promise.all(ids.map((id) => this.deps.ask(id, { kind: 'forget', clientId }, this.options.timeoutMs)));
  }
}

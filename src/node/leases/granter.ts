import { LRUCache } from 'lru-cache';
import { findBucket, lend, lentBy, remaining, advance, takeBack, type Bucket } from '../../limits/bucket/bucket.js';
import { decide, verdictOf } from '../../limits/decide/decide.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { compareStrictness, type Rule } from '../../limits/bucket/rule.js';
import type { Router } from '../../membership/route.js';
import type { Confirmer } from '../../replication/confirmer.js';
import type { BucketTable } from '../../state/bucket-table.js';
import { LEASE_MS } from './holder.js';
import type { Membership } from '../../membership/membership.js';
import type { LeaseGrant, LeaseReturn, LeaseRequest } from '../../protocol/messages.js';
import type { Clock } from '../../lib/system.js';
import type { Replicator } from '../../replication/replicator.js';
import type { Reservations } from '../../state/reservations.js';

/**
 * The owner keeps a lease open for this long after it granted it. The holder stops spending `LEASE_MS` after it asked,
 * which was earlier. Its return then has as long to arrive.
 */
const OPEN_MS = 2 * LEASE_MS;
/** This part of the capacity is never lent: near the limit, the owner makes each decision. */
const UNLENT = 0.5;
/** One holder gets this part of what may be lent, because others may ask too. */
const SHARE = 0.5;
/**
 * In a sliding window, lent tokens count for one window after the end of the lease. For shorter windows that is too
 * long.
 */
const MIN_SLIDING_WINDOW_MS = 32 * OPEN_MS;
/** Fewer tokens are not worth a message. */
const MIN_TOKENS = 4;
/** Leases of one bucket. More are refused, because each change of them reads all. */
const MAX_LEASES = 256;

/** After a denial while tokens of the client were lent, none are lent for this long. */
const PAUSE_MS = 1_000;
const MAX_PAUSED = 10_000;

/** The owner's side of leases: grants them and takes them back. */
export class LeaseGranter {
  private readonly pausedUntilMs = new LRUCache<string, number>({ max: MAX_PAUSED });
  private leases = 0;
  private lent = 0;
  private returned = 0;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly table: BucketTable;
      readonly membership: Membership;
      readonly replicator: Pick<Replicator, 'changed'>;
      readonly reservations: Reservations;
      readonly confirmer: Pick<Confirmer, 'confirm'>;
      readonly router: Pick<Router, 'owns'>;
    },
  ) {}

  /**
   * Takes the tokens out of the buckets, and answers when all replicas know, so that a crash frees none of them. A
   * holder cannot return the leases of another one.
   */
  async lease(
    requests: readonly LeaseRequest[],
    returns: readonly LeaseReturn[],
    holder: NodeId,
  ): Promise<readonly (LeaseGrant | null)[]> {
    const { clock, confirmer } = this.parts;
    returns.filter(({ id }) => holderOf(id) === holder).forEach((one) => this.giveBack(one));
    const nowMs = clock.nowMs();
    const granted = requests.map((request) => this.grant(request, holder, nowMs));
    const clients = requests.filter((_, i) => granted[i] !== undefined).map(({ clientId }) => clientId);
    if (clients.length === 0) return requests.map(() => null);
    // All replicas must know: the holder goes on spending even if several of them die together.
    const kept = await confirmer.confirm(clients, 'all');
    return requests.map(({ clientId }, i) => {
      const given = granted[i];
      if (given === undefined) return null;
      if (kept.has(clientId)) return given;
      this.giveBack({ clientId, id: given.id, unspent: given.tokens });
      return null;
    });
  }

  /** Puts back the unspent tokens of an open lease, also of one that an earlier owner granted. */
  giveBack({ clientId, id, unspent }: LeaseReturn): void {
    const { clock, table, reservations, replicator } = this.parts;
    const nowMs = clock.nowMs();
    const client = table.openKnown(clientId);
    if (client === undefined) return;
    reservations.observe(client, undefined, nowMs);
    let open = false;
    let lent = 0;
    for (let bucket = client.first; bucket !== undefined; bucket = bucket.next) {
      if (lentBy(bucket) === 0) continue;
      advance(bucket, nowMs);
      const before = lentBy(bucket);
      open = takeBack(bucket, id, unspent, nowMs) || open;
      lent = Math.max(lent, before - lentBy(bucket));
    }
    table.close(client, nowMs);
    if (!open) return;
    this.returned += Math.min(unspent, lent);
    // If another node owns the client by now, a copy tells it: it has the lease open too.
    replicator.changed(client);
  }

  /** Lends no tokens of this client for a second. */
  pause(clientId: string): void {
    this.pausedUntilMs.set(clientId, this.parts.clock.nowMs() + PAUSE_MS);
  }

  /** Tokens lent so far, and tokens that came back. */
  lentTokens(): number {
    return this.lent;
  }

  returnedTokens(): number {
    return this.returned;
  }

  /** Tokens that each of these buckets may lend. A bucket that does not exist lends none. */
  private lendable(buckets: readonly (Bucket | undefined)[], rules: readonly Rule[], nowMs: number): number {
    let tokens = Infinity;
    for (const [i, rule] of rules.entries()) {
      const bucket = buckets[i];
      // A changed limit takes effect with a decision, not with a lease.
      if (bucket === undefined || compareStrictness(bucket.rule, rule) !== 0) return 0;
      if (rule.algorithm === 'sliding-window' && rule.windowMs < MIN_SLIDING_WINDOW_MS) return 0;
      advance(bucket, nowMs);
      if ((bucket.leases?.list.length ?? 0) >= MAX_LEASES) return 0;
      tokens = Math.min(tokens, (remaining(bucket, rule) - rule.capacity * UNLENT) * SHARE);
    }
    return Math.floor(tokens);
  }

  private grant(
    { clientId, rules, tokens: wanted }: LeaseRequest,
    holder: NodeId,
    nowMs: number,
  ): LeaseGrant | undefined {
    const { table, router, membership, replicator } = this.parts;
    const client = table.openKnown(clientId);
    if (client === undefined || nowMs < (this.pausedUntilMs.get(clientId) ?? 0) || !router.owns(clientId))
      return undefined;
    const buckets = rules.map((rule) => findBucket(client, rule));
    const tokens = Math.min(wanted, this.lendable(buckets, rules, nowMs));
    if (tokens < MIN_TOKENS) return undefined;
    const { id: self, incarnation } = membership.self();
    const id = `${self} ${incarnation} ${++this.leases} ${holder}`;
    for (const bucket of buckets) lend(bucket!, { id, tokens, endMs: nowMs + OPEN_MS, spent: undefined });
    const peek = { rules, cost: 1, peek: true };
    const verdict = verdictOf(decide(client, peek, nowMs));
    this.lent += tokens;
    table.close(client, nowMs);
    replicator.changed(client);
    return { id, tokens, verdict };
  }
}

/** The node that may return a lease: the last word of its id. */
function holderOf(leaseId: string): NodeId {
  return leaseId.slice(leaseId.lastIndexOf(' ') + 1);
}

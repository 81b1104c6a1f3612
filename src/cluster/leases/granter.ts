import { LRUCache } from 'lru-cache';
import { findBucket, lend, lentBy, remaining, advance, takeBack } from '../../core/bucket.js';
import type { Bucket } from '../../core/bucket.js';
import { decide } from '../../core/decide.js';
import type { NodeId } from '../../core/ring.js';
import type { Rule } from '../../core/rule.js';
import { compareStrictness } from '../../core/rule.js';
import type { Acknowledger } from '../replication/acknowledger.js';
import type { BucketTable } from '../state/bucket-table.js';
import { LEASE_MS } from './holder.js';
import type { Membership } from '../membership/membership.js';
import type { LeaseGrant, LeaseReturn, LeaseRequest } from '../messages.js';
import type { Clock } from '../ports.js';
import type { Replicator } from '../replication/replicator.js';
import type { Reservations } from '../state/reservations.js';

/**
 * How long the owner keeps a lease open, from when it was granted: the holder stops spending `LEASE_MS` after it asked, which
 * was before, and what it returns then has as long to arrive.
 */
const OPEN_MS = 2 * LEASE_MS;
/** Of the capacity, this part is never lent: near the limit each decision is the owner's. */
const UNLENT = 0.5;
/** Of what may be lent, this part goes to one who asks, as others may ask too. */
const SHARE = 0.5;
/** In a sliding window lent tokens count until the lease is over, and a window longer: of a shorter one than this, by too much. */
const MIN_SLIDING_WINDOW_MS = 32 * OPEN_MS;
/** Less is not worth a message. */
const MIN_TOKENS = 4;
/** Leases of one bucket; above, all are refused: each decision on it looks at their sum, each change of them at all. */
const MAX_LEASES = 256;

/** After a denial while tokens of the client were lent, nothing is lent of it for so long. */
const PAUSE_MS = 1_000;
const MAX_PAUSED = 10_000;

/** The owner's side of leases. */
export interface LeaseGranter {
  /**
   * Takes the tokens out of the buckets, and answers when a successor knows: a crash then frees none of them. What `holder` returns
   * of another's leases is not taken back.
   */
  lease(
    wishes: readonly LeaseRequest[],
    returns: readonly LeaseReturn[],
    holder: NodeId,
  ): Promise<readonly (LeaseGrant | null)[]>;
  /** Puts back what was not spent of an open lease, whoever granted it: who owns the client now has it with the rest. */
  giveBack(one: LeaseReturn): void;
  /** Lends nothing of this client for a second. */
  pause(clientId: string): void;
  /** Tokens lent, and those that came back, so far. */
  readonly lentTokens: number;
  readonly returnedTokens: number;
}

interface LeaseGranterDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly membership: Membership;
  readonly replicator: Pick<Replicator, 'changed' | 'replicateNow'>;
  readonly reservations: Reservations;
  /** In strict mode: makes sure that whoever may decide next knows of a lease. */
  readonly acknowledger?: Pick<Acknowledger, 'acknowledgeAll'> | undefined;
  /** Whether this node owns the client, and may decide now. */
  readonly decidesFor: (clientId: string) => boolean;
}

export function createLeaseGranter(deps: LeaseGranterDeps): LeaseGranter {
  const { clock, table, membership, replicator, reservations, acknowledger, decidesFor } = deps;
  const pausedUntilMs = new LRUCache<string, number>({ max: MAX_PAUSED });
  let leases = 0;
  let lentTokens = 0;
  let returnedTokens = 0;

  /** What may be lent of each of these buckets, none of which is new: who asks has just had a decision on it. */
  function lendable(buckets: readonly (Bucket | undefined)[], rules: readonly Rule[], nowMs: number): number {
    let tokens = Infinity;
    for (const [i, rule] of rules.entries()) {
      const bucket = buckets[i];
      // A limit that changed is put in force by a decision.
      if (bucket === undefined || compareStrictness(bucket.rule, rule) !== 0) return 0;
      if (rule.algorithm === 'sliding-window' && rule.windowMs < MIN_SLIDING_WINDOW_MS) return 0;
      advance(bucket, nowMs);
      if ((bucket.leases?.list.length ?? 0) >= MAX_LEASES) return 0;
      tokens = Math.min(tokens, (remaining(bucket, rule) - rule.capacity * UNLENT) * SHARE);
    }
    return Math.floor(tokens);
  }

  function grant(
    { clientId, rules, tokens: wanted }: LeaseRequest,
    holder: NodeId,
    nowMs: number,
  ): LeaseGrant | undefined {
    const client = table.openKnown(clientId);
    if (client === undefined || nowMs < (pausedUntilMs.get(clientId) ?? 0) || !decidesFor(clientId)) return undefined;
    const buckets = rules.map((rule) => findBucket(client, rule));
    const tokens = Math.min(wanted, lendable(buckets, rules, nowMs));
    if (tokens < MIN_TOKENS) return undefined;
    const { id: self, incarnation } = membership.self;
    const id = `${self} ${incarnation} ${++leases} ${holder}`;
    for (const bucket of buckets) lend(bucket!, { id, tokens, endMs: nowMs + OPEN_MS, spent: undefined });
    const peek = { rules, cost: 1, peek: true };
    const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = decide(client, peek, nowMs);
    lentTokens += tokens;
    table.close(client, nowMs);
    replicator.changed(client);
    return { id, tokens, verdict: { allowed, limit, remaining, retryAfterMs, resetMs, limits } };
  }

  function giveBack({ clientId, id, unspent }: LeaseReturn): void {
    const nowMs = clock.nowMs();
    const client = table.openKnown(clientId);
    if (client === undefined) return;
    if (reservations.size > 0) reservations.observe(client, nowMs);
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
    returnedTokens += Math.min(unspent, lent);
    // Where another node owns the client by now, it is told, as it has the lease open too.
    replicator.changed(client);
  }

  return {
    async lease(wishes, returns, holder) {
      returns.filter(({ id }) => holderOf(id) === holder).forEach(giveBack);
      const nowMs = clock.nowMs();
      const granted = wishes.map((wish) => grant(wish, holder, nowMs));
      const clients = wishes.filter((_, i) => granted[i] !== undefined).map(({ clientId }) => clientId);
      if (clients.length === 0) return wishes.map(() => null);
      // All: the holder spends for a while yet, should those die together who know.
      const kept = await (acknowledger?.acknowledgeAll(clients) ?? replicator.replicateNow(clients, 'all'));
      return wishes.map(({ clientId }, i) => {
        const given = granted[i];
        if (given === undefined) return null;
        if (kept.has(clientId)) return given;
        giveBack({ clientId, id: given.id, unspent: given.tokens });
        return null;
      });
    },
    giveBack,
    pause: (clientId) => void pausedUntilMs.set(clientId, clock.nowMs() + PAUSE_MS),
    get lentTokens() {
      return lentTokens;
    },
    get returnedTokens() {
      return returnedTokens;
    },
  };
}

/** Who may return a lease: the last word of its id. */
function holderOf(leaseId: string): NodeId {
  return leaseId.slice(leaseId.lastIndexOf(' ') + 1);
}

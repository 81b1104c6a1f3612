import { remaining, restMs, settle } from '../core/bucket.js';
import { decide } from '../core/decide.js';
import type { Check } from '../core/decide.js';
import type { Algorithm } from '../core/rule.js';
import { Client } from './bucket-table.js';
import type { BucketTable } from './bucket-table.js';
import type { Decision } from './decision.js';
import type { Clock } from './ports.js';
import type { RecentDecisions } from './recent-decisions.js';

/** The limiter, as the public API and the library see it. */
export interface Limiter {
  /** Decides at once where this node can, which most callers notice: only the rest is a promise. Never rejects. */
  check(check: Check): Decision | Promise<Decision>;
  /** What a client has consumed, consuming nothing. */
  describe(clientId: string): Promise<ClientDescription>;
  /** Forgets what a client has consumed, everywhere. */
  forget(clientId: string): Promise<void>;
}

export interface ClientDescription {
  readonly clientId: string;
  readonly owner: string;
  readonly buckets: readonly BucketDescription[];
}

export interface BucketDescription {
  readonly policy: string | undefined;
  readonly algorithm: Algorithm;
  readonly windowMs: number;
  readonly limit: number;
  /** Whole tokens that could be taken now. */
  readonly remaining: number;
  /** Whole ms, rounded up, until nothing of the consumption is left. */
  readonly resetMs: number;
}

export interface LimiterDeps {
  readonly clock: Clock;
  readonly table: BucketTable;
  readonly recent: RecentDecisions;
}

export function createLimiter({ clock, table, recent }: LimiterDeps, options: { self: string }): Limiter {
  const { self } = options;

  function decideAsOwner(check: Check, nowMs: number): Decision {
    const { clientId, requestId } = check;
    if (requestId !== undefined) {
      const first = recent.get(clientId, requestId);
      if (first !== undefined) return first;
    }
    const known = table.get(clientId);
    const client = known ?? new Client();
    const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = decide(client, check, nowMs);
    if (known === undefined && client.first !== undefined) table.add(clientId, client, nowMs);
    const decision: Decision = {
      allowed,
      limit,
      remaining,
      retryAfterMs,
      resetMs,
      owner: self,
      source: 'owner',
      degraded: false,
      limits,
    };
    if (requestId !== undefined && !check.peek) recent.add(clientId, requestId, decision);
    return decision;
  }

  return {
    check: (check) => decideAsOwner(check, clock.nowMs()),
    describe(clientId) {
      const nowMs = clock.nowMs();
      const buckets: BucketDescription[] = [];
      for (let bucket = table.peek(clientId)?.first; bucket !== undefined; bucket = bucket.next) {
        settle(bucket, nowMs);
        const { policy, algorithm, windowMs, limit } = bucket.rule;
        const left = remaining(bucket, bucket.rule);
        buckets.push({ policy, algorithm, windowMs, limit, remaining: left, resetMs: restMs(bucket, nowMs) });
      }
      return Promise.resolve({ clientId, owner: self, buckets });
    },
    forget(clientId) {
      table.delete(clientId);
      return Promise.resolve();
    },
  };
}

import type { Clock, Timers } from '../lib/clock.js';
import type { Registry } from './registry.js';
import type { RegistryHealth } from './registry-health.js';

/**
 * This part of a lease's time does not count. The clock of the registry may run faster than this node's by so much, and
 * this node reads its own in whole ms: docs/guarantees.md.
 */
const MARGIN_PART = 0.05;

interface RegistryLeaseDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly registry: Registry;
  readonly health: RegistryHealth;
  /** Called with the registry's revision after each renewal. */
  readonly onRenewed: (revision: number) => void;
  /** Called when the lease has expired at the registry. */
  readonly onExpired: () => void;
}

interface RegistryLeaseOptions {
  /** Time to live that this node asks for: whole seconds. */
  readonly ttlMs: number;
  readonly renewEveryMs: number;
  readonly timeoutMs: number;
}

/** The lease under which this node is registered. It is renewed until it expires, or is revoked. */
interface RegistryLease {
  /** `undefined` while there is none. */
  id(): string | undefined;
  /** Until this time of its own clock, this node counts on the lease. */
  holdsUntilMs(): number;
  /** Gets a lease if there is none. @returns whether there is one */
  acquire(): Promise<boolean>;
  /** Notes that the registry does not know the lease any more. */
  expired(): void;
  /** Ends the lease, and removes what was written under it. */
  readonly revoke: () => Promise<void>;
  close(): void;
}

export function createRegistryLease(deps: RegistryLeaseDeps, options: RegistryLeaseOptions): RegistryLease {
  const { clock, timers, registry, health, onRenewed, onExpired } = deps;
  const { ttlMs, renewEveryMs, timeoutMs } = options;
  let id: string | undefined;
  let holdsUntilMs = -Infinity;
  let isRenewing = false;
  let closed = false;

  /** @param sentAtMs when this node asked: the registry counts from a later time */
  function extend(sentAtMs: number, grantedMs: number): void {
    holdsUntilMs = Math.max(holdsUntilMs, sentAtMs + Math.floor(grantedMs * (1 - MARGIN_PART)));
  }

  function expired(): void {
    id = undefined;
    holdsUntilMs = -Infinity;
    onExpired();
  }

  async function renew(): Promise<void> {
    if (id === undefined || isRenewing) return;
    const renewedId = id;
    const sentAtMs = clock.nowMs();
    isRenewing = true;
    const renewed = await registry.renew(renewedId, timeoutMs);
    isRenewing = false;
    if (renewedId !== id || closed) return;
    if (renewed.kind === 'failed') return health.failed('renew', renewed.reason);
    health.answered();
    if (renewed.kind === 'ended') return expired();
    extend(sentAtMs, renewed.ttlMs);
    onRenewed(renewed.revision);
  }

  const stop = timers.every(renewEveryMs, () => void renew());

  return {
    id: () => id,
    holdsUntilMs: () => holdsUntilMs,
    async acquire() {
      if (id !== undefined) return true;
      const sentAtMs = clock.nowMs();
      const granted = await registry.grant(ttlMs, timeoutMs);
      if (granted.kind === 'failed') {
        health.failed('grant', granted.reason);
        return false;
      }
      id = granted.leaseId;
      holdsUntilMs = -Infinity;
      extend(sentAtMs, granted.ttlMs);
      return true;
    },
    expired,
    async revoke() {
      const revoked = id;
      id = undefined;
      if (revoked !== undefined) await registry.revoke(revoked, timeoutMs);
    },
    close() {
      closed = true;
      stop();
    },
  };
}

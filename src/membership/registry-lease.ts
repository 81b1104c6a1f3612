import type { Clock, Timers } from '../lib/system.js';
import type { Registry, RegistryHealth } from './registry.js';

/**
 * This part of a lease's time does not count. The clock of the registry may run faster than this node's by so much, and
 * this node reads its own in whole ms: docs/guarantees.md.
 */
const MARGIN_PART = 0.05;

/** The lease under which this node is registered. It is renewed until it expires, or is revoked. */
export class RegistryLease {
  private leaseId: string | undefined;
  private untilMs = -Infinity;
  private isRenewing = false;
  private closed = false;
  private readonly stopRenewing: () => void;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly registry: Registry;
      readonly health: RegistryHealth;
      /** Called with the registry's revision after each renewal. */
      readonly onRenewed: (revision: number) => void;
      /** Called when the lease has expired at the registry. */
      readonly onExpired: () => void;
      /** Time to live that this node asks for: whole seconds. */
      readonly ttlMs: number;
      readonly renewEveryMs: number;
      readonly timeoutMs: number;
    },
  ) {
    this.stopRenewing = parts.timers.every(parts.renewEveryMs, () => void this.renew());
  }

  /** `undefined` while there is none. */
  id(): string | undefined {
    return this.leaseId;
  }

  /** Until this time of its own clock, this node counts on the lease. */
  holdsUntilMs(): number {
    return this.untilMs;
  }

  /** Gets a lease if there is none. @returns whether there is one */
  async acquire(): Promise<boolean> {
    if (this.leaseId !== undefined) return true;
    const sentAtMs = this.parts.clock.nowMs();
    const granted = await this.parts.registry.grant(this.parts.ttlMs, this.parts.timeoutMs);
    if (granted.kind === 'failed') {
      this.parts.health.failed('grant', granted.reason);
      return false;
    }
    this.leaseId = granted.leaseId;
    this.untilMs = -Infinity;
    this.extend(sentAtMs, granted.ttlMs);
    return true;
  }

  /** Notes that the registry does not know the lease any more. */
  expired(): void {
    this.leaseId = undefined;
    this.untilMs = -Infinity;
    this.parts.onExpired();
  }

  /** Ends the lease, and removes what was written under it. */
  async revoke(): Promise<void> {
    const revoked = this.leaseId;
    this.leaseId = undefined;
    if (revoked !== undefined) await this.parts.registry.revoke(revoked, this.parts.timeoutMs);
  }

  close(): void {
    this.closed = true;
    this.stopRenewing();
  }

  /** @param sentAtMs when this node asked: the registry counts from a later time */
  private extend(sentAtMs: number, grantedMs: number): void {
    this.untilMs = Math.max(this.untilMs, sentAtMs + Math.floor(grantedMs * (1 - MARGIN_PART)));
  }

  private async renew(): Promise<void> {
    const renewedId = this.leaseId;
    if (renewedId === undefined || this.isRenewing) return;
    const sentAtMs = this.parts.clock.nowMs();
    this.isRenewing = true;
    const renewed = await this.parts.registry.renew(renewedId, this.parts.timeoutMs);
    this.isRenewing = false;
    if (renewedId !== this.leaseId || this.closed) return;
    if (renewed.kind === 'failed') return this.parts.health.failed('renew', renewed.reason);
    this.parts.health.answered();
    if (renewed.kind === 'ended') return this.expired();
    this.extend(sentAtMs, renewed.ttlMs);
    this.parts.onRenewed(renewed.revision);
  }
}

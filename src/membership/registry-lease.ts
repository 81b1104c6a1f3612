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
  private readonly clock: Clock;
  private readonly registry: Registry;
  private readonly health: RegistryHealth;
  private readonly onRenewed: (revision: number) => void;
  private readonly onExpired: () => void;
  private readonly ttlMs: number;
  private readonly timeoutMs: number;

  constructor(args: {
    clock: Clock;
    timers: Timers;
    registry: Registry;
    health: RegistryHealth;
    /** Called with the registry's revision after each renewal. */
    onRenewed: (revision: number) => void;
    /** Called when the lease has expired at the registry. */
    onExpired: () => void;
    /** Time to live that this node asks for: whole seconds. */
    ttlMs: number;
    renewEveryMs: number;
    timeoutMs: number;
  }) {
    this.clock = args.clock;
    this.registry = args.registry;
    this.health = args.health;
    this.onRenewed = args.onRenewed;
    this.onExpired = args.onExpired;
    this.ttlMs = args.ttlMs;
    this.timeoutMs = args.timeoutMs;
    this.stopRenewing = args.timers.every(args.renewEveryMs, () => void this.renew());
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
    const sentAtMs = this.clock.nowMs();
    const granted = await this.registry.grant(this.ttlMs, this.timeoutMs);
    if (granted.kind === 'failed') {
      this.health.failed('grant', granted.reason);
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
    this.onExpired();
  }

  /** Ends the lease, and removes what was written under it. */
  async revoke(): Promise<void> {
    const revoked = this.leaseId;
    this.leaseId = undefined;
    if (revoked !== undefined) await this.registry.revoke(revoked, this.timeoutMs);
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
    const sentAtMs = this.clock.nowMs();
    this.isRenewing = true;
    const renewed = await this.registry.renew(renewedId, this.timeoutMs);
    this.isRenewing = false;
    if (renewedId !== this.leaseId || this.closed) return;
    if (renewed.kind === 'failed') return this.health.failed('renew', renewed.reason);
    this.health.answered();
    if (renewed.kind === 'ended') return this.expired();
    this.extend(sentAtMs, renewed.ttlMs);
    this.onRenewed(renewed.revision);
  }
}

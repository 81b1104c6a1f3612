import type { Clock, Timers, Log } from '../lib/system.js';
import { type Registration, type Registry, type Unless, RegistryHealth } from './registry.js';
import { RegistryLease } from './registry-lease.js';
import type { RegistryMembership } from './registry-membership.js';
import { RegistryPolicyStore } from './registry-policy-store.js';
import { WatchedView } from './watched-view.js';

/** Renewals in the time to live of a lease: four may be lost. */
const RENEWALS = 5;

/**
 * This node's registration, its lease, and its view of all members and policies. It begins at once, and tries again
 * what the registry does not answer, until `close`.
 */
export class RegistrySession {
  readonly health: RegistryHealth;
  readonly policyStore: RegistryPolicyStore;
  private readonly view: WatchedView;
  private readonly lease: RegistryLease;
  /** The latest write of this node that is known to be done. */
  private writtenRevision = 0;
  private closed = false;
  private readonly clock: Clock;
  private readonly registry: Registry;
  private readonly membership: RegistryMembership;
  private readonly timeoutMs: number;

  constructor(args: {
    clock: Clock;
    timers: Timers;
    registry: Registry;
    membership: RegistryMembership;
    log: Log;
    /** How long this node stays a member without renewing its lease: whole seconds. */
    ttlMs: number;
  }) {
    const { clock, registry, membership, log, ttlMs } = args;
    const renewEveryMs = Math.floor(ttlMs / RENEWALS);
    const timeoutMs = renewEveryMs;
    this.clock = clock;
    this.registry = registry;
    this.membership = membership;
    this.timeoutMs = timeoutMs;
    const health = (this.health = new RegistryHealth(clock, log, renewEveryMs));
    const view = (this.view = new WatchedView({ ...args, health, timeoutMs }));
    this.policyStore = new RegistryPolicyStore(registry, health, view, timeoutMs);
    this.lease = new RegistryLease({
      ...args,
      health,
      onRenewed: (revision) => view.noteRevision(revision),
      onExpired() {
        log.warn({}, 'the lease expired; rejoining');
        membership.deregistered();
      },
      renewEveryMs,
      timeoutMs,
    });
  }

  /** Until this time of its own clock, the registration of this node stays, and no other node decides for it. */
  holdsUntilMs(): number {
    return this.lease.holdsUntilMs();
  }

  /** Ms until then, at least 0. */
  leaseLeftMs(): number {
    return Math.max(0, this.lease.holdsUntilMs() - this.clock.nowMs());
  }

  /** Registers this node as joining, with its next incarnation. @returns whether it is registered */
  async register(): Promise<boolean> {
    const { membership } = this;
    if (membership.isRegistered()) return true;
    const hasLease = await this.lease.acquire();
    const now = await this.view.read();
    if (!hasLease || now === undefined || this.closed) return false;
    const incarnation = Math.max(membership.self().incarnation, now.revision + 1);
    const unless = { ownLaterThan: now.revision, anyLaterThan: undefined };
    const revision = await this.write(incarnation, 'joining', unless);
    if (revision === undefined) return false;
    membership.registered(incarnation, revision);
    return true;
  }

  /**
   * Writes this node's next state; `active` only if no member was written since the view that this node acts on.
   * @returns the revision; `undefined` if another write came first, or the registry did not answer
   */
  publish(state: Registration['state']): Promise<number | undefined> {
    // A write of this node that it does not know to be done comes with the next view.
    const ownLaterThan = Math.max(this.view.latest().revision, this.writtenRevision);
    const anyLaterThan = state === 'active' ? this.membership.epoch() : undefined;
    return this.write(this.membership.self().incarnation, state, { ownLaterThan, anyLaterThan });
  }

  /** Ends the lease, and with it the registration. */
  deregister(): Promise<void> {
    return this.lease.revoke();
  }

  close(): void {
    this.closed = true;
    this.lease.close();
    this.view.close();
  }

  private async write(incarnation: number, state: Registration['state'], unless: Unless): Promise<number | undefined> {
    const leaseId = this.lease.id();
    if (leaseId === undefined) return undefined;
    const { id, version, url } = this.membership.self();
    const entry = { id, incarnation, state, version, url };
    const written = await this.registry.write(leaseId, entry, unless, this.timeoutMs);
    if (written.kind === 'failed') this.health.failed('write', written.reason);
    else this.health.answered();
    if (written.kind === 'ended') this.lease.expired();
    if (written.kind !== 'written') return undefined;
    this.writtenRevision = Math.max(this.writtenRevision, written.revision);
    return written.revision;
  }
}

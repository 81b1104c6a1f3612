import { Acknowledger } from '../replication/acknowledger.js';
import { RegistrySession } from '../membership/registry-session.js';
import { RegistryProbing } from '../membership/probing.js';
import type { MembershipOptions } from '../membership/membership.js';
import { RegistryMembership } from '../membership/registry-membership.js';
import type { Registry } from '../membership/registry.js';
import type { Copies } from '../state/copies.js';
import type { Ask } from '../protocol/messages.js';
import type { Clock, Timers, Log } from '../lib/system.js';

/** A dead member stays registered this long, and its lease costs a request in each fifth of it. */
const MEMBER_TTL_MS = 5_000;

/** A member by registration: what a registry changes in the life of a node. */
export class RegistryMember {
  readonly membership: RegistryMembership;
  readonly session: RegistrySession;
  readonly probing: RegistryProbing;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly log: Log;
  private readonly strict: boolean;

  /**
   * @param options.memberTtlMs how long this node stays a member without renewing its lease: whole seconds. Default
   *   5,000 ms
   * @param options.strict see `ClusterNodeOptions`. Default false
   */
  constructor(
    { clock, timers, log, registry }: { clock: Clock; timers: Timers; log: Log; registry: Registry },
    options: MembershipOptions & { readonly memberTtlMs?: number; readonly strict?: boolean },
  ) {
    const { strict = false, memberTtlMs: ttlMs = MEMBER_TTL_MS } = options;
    this.clock = clock;
    this.timers = timers;
    this.log = log;
    this.strict = strict;
    const onDeregistered = (): void => log.warn({}, 'the registration is gone; rejoining');
    const membership = (this.membership = new RegistryMembership(clock, { ...options, strict, onDeregistered }));
    const session = (this.session = new RegistrySession({ clock, timers, log, registry, membership, ttlMs }));
    this.probing = new RegistryProbing(membership, () => session.health.isReachable());
  }

  /** In strict mode: finds whether this node may decide at all; to be called before each decision. */
  checkRegistration(nowMs: number): void {
    if (!this.strict) return;
    const expired = !this.membership.mustJoin() && nowMs >= this.session.holdsUntilMs();
    if (expired === this.membership.registrationExpired()) return;
    if (expired) this.log.warn({}, 'lease expired; deciding nothing until it is renewed');
    else this.log.info({}, 'lease renewed; deciding again');
    this.membership.setRegistrationExpired(expired);
  }

  /** Present in strict mode: an admission counts once the replicas have it. */
  acknowledger(
    parts: { readonly copies: Copies; readonly ask: Ask },
    options: { readonly replicas: number; readonly suspectAfterMs: number; readonly giveUpAfterMs: number },
  ): Acknowledger | undefined {
    if (!this.strict) return undefined;
    const { clock, timers, membership } = this;
    const mayDecide = (): boolean => {
      this.checkRegistration(clock.nowMs());
      return !membership.registrationExpired() && !membership.mustJoin();
    };
    return new Acknowledger({ clock, timers, membership, mayDecide, ...parts, ...options });
  }

  /** Registers this node as active, once it has its clients. @returns whether it is */
  async activate(): Promise<boolean> {
    if ((await this.session.publish('active')) === undefined) return false;
    this.membership.declare('active');
    return true;
  }
}

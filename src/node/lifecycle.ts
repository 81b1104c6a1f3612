import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { ColdStartRecovery } from './durability/cold-start-recovery.js';
import type { Donor } from '../replication/donor.js';
import { Joiner } from '../replication/joiner.js';
import { Leaver, type GroupLeave } from './leaver.js';
import type { RegistryMember } from './registry-member.js';
import { IdCheck } from '../membership/id-check.js';
import type { LeaseHolder } from './leases/holder.js';
import type { DecisionGate } from '../membership/decision-gate.js';
import type { Membership } from '../membership/membership.js';
import type { PeerRpc } from '../membership/peer-rpc.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import { PauseDetector } from '../membership/pause-detector.js';
import type { Clock, Timers, Log } from '../lib/system.js';
import type { Discovery } from '../membership/discovery.js';
import type { Replicator } from '../replication/replicator.js';
import type { WriteBehind } from './durability/write-behind.js';

/**
 * The table is swept about once a minute, a step with each heartbeat: 1,667 clients each at a million, which takes far
 * less than 5 ms. A faster sweep would only drop clients that return every few seconds.
 */
export const SWEEP_STEPS = 600;
/** Time that a leaving node waits for the store. */
const LAST_WRITE_MS = 1_500;
/** Heartbeats in a suspicion time. */
const BEATS = 10;
/** A check waits for a peer up to this multiple of the suspicion time. */
const GIVE_UP_FACTOR = 1.5;

export function giveUpMsOf(suspectAfterMs: number): number {
  return Math.ceil(suspectAfterMs * GIVE_UP_FACTOR);
}

/** Ms between two heartbeats. */
export function beatMsOf(suspectAfterMs: number): number {
  return Math.max(1, Math.floor(suspectAfterMs / BEATS));
}

/** The parts of a node on which its life has an effect. */
interface LifecycleParts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly discovery: Discovery;
  readonly membership: Membership;
  /** Present if there is a registry. */
  readonly registryMember: RegistryMember | undefined;
  readonly peerRpc: PeerRpc;
  readonly table: BucketTable;
  readonly copies: Copies;
  readonly replicator: Replicator;
  readonly writeBehind: WriteBehind | undefined;
  readonly coldStartRecovery: ColdStartRecovery | undefined;
  readonly gate: DecisionGate;
  readonly leaseHolder: LeaseHolder;
  readonly policies: PolicyBackend;
  readonly adaptive: AdaptiveController;
  readonly donor: Donor;
}

/** The course of a node's life: it starts, joins the ring, beats, notices its own pauses, leaves, and closes. */
export class Lifecycle {
  private started = false;
  private hasJoined = false;
  private closed = false;
  private joining: Promise<void> | undefined;
  private releaseForming: (() => void) | undefined;
  private idChecked: () => void = () => undefined;
  private checkingOwnId: Promise<void> | undefined;
  private readonly stopTicking: () => void;
  private readonly idCheck: IdCheck;
  private readonly pauses: PauseDetector;
  private readonly joiner: Joiner;
  private readonly leaver: Leaver;
  private readonly giveUpMs: number;

  constructor(
    private readonly parts: LifecycleParts,
    private readonly options: {
      readonly suspectAfterMs: number;
      readonly bootstrapMs?: number;
      readonly checksId?: boolean;
    },
  ) {
    const { clock, timers, log, discovery, membership, registryMember, peerRpc, gate, policies } = parts;
    const { suspectAfterMs } = options;
    const { ask } = peerRpc;
    const beatMs = beatMsOf(suspectAfterMs);
    const hold = (): (() => void) => gate.close();
    this.giveUpMs = giveUpMsOf(suspectAfterMs);
    if (options.checksId === true) this.checkingOwnId = new Promise((resolve) => (this.idChecked = resolve));
    this.idCheck = new IdCheck({ log, timers, membership, discovery, peerRpc, timeoutMs: suspectAfterMs, beatMs });
    const rejoin = (): void => {
      membership.reincarnate();
      this.startJoin();
    };
    this.pauses = new PauseDetector({ clock, log, membership, ask, hold, rejoin, suspectAfterMs });
    this.joiner = new Joiner({
      clock,
      timers,
      membership,
      registrar: registryMember,
      discovery,
      ask,
      log,
      beginMerge: (clients) => parts.copies.beginMerge(clients),
      hold,
      catchUp: (ids) => policies.catchUp(ids),
      returnToOwners: () => parts.coldStartRecovery?.returnToOwners() ?? Promise.resolve(true),
      timeoutMs: suspectAfterMs,
    });
    const { leaseHolder, replicator } = parts;
    const drainMs = suspectAfterMs * BEATS;
    this.leaver = new Leaver({ timers, membership, gate, leaseHolder, replicator, peerRpc, drainMs });
    this.stopTicking = timers.every(beatMs, () => this.tick());
  }

  /** Finds whether this process paused for so long that others may have acted for it. */
  detectPause(nowMs: number): void {
    this.parts.registryMember?.checkRegistration(nowMs);
    this.pauses.detect(nowMs);
  }

  /**
   * To be called after each change of the ring. While the ring has no members, checks wait for it to form, as long as
   * they would wait for a slow owner.
   */
  ringChanged(): void {
    const { membership, gate, timers } = this.parts;
    const isForming = this.started && !this.closed && membership.mustJoin() && membership.ring().members.length === 0;
    if (!isForming) return this.endForming();
    if (this.releaseForming !== undefined) return;
    const release = gate.close();
    this.releaseForming = release;
    void timers.sleep(this.giveUpMs).then(() => {
      if (this.releaseForming === release) this.endForming();
    });
  }

  /** Why this node is not in a ring yet; `undefined` if it is, or is about to be. */
  waitingFor(): string | undefined {
    return this.joiner.waitingFor();
  }

  /** Takes a message that came under this node's own id. */
  ownIdReceived(): void {
    this.idCheck.received();
  }

  /**
   * Resolves once no other process has the id of this node; `undefined` if that is known. Until then, an answer would
   * speak for that process.
   */
  checkingId(): Promise<void> | undefined {
    return this.checkingOwnId;
  }

  /** Resolves when it is known whether others acted during a pause; `undefined` if there was none. */
  asking(): Promise<void> | undefined {
    return this.pauses.asking();
  }

  /** Joins the ring; resolves when this node decides. */
  async start(): Promise<void> {
    const { clock, gate, writeBehind, coldStartRecovery } = this.parts;
    if (this.options.checksId === true) await this.idCheck.run();
    this.checkingOwnId = undefined;
    this.idChecked();
    await writeBehind?.load();
    const release = coldStartRecovery?.hasPeersToAwait() === true ? gate.close() : undefined;
    this.started = true;
    this.pauses.noteRunning(clock.nowMs());
    this.startJoin();
    await this.joined();
    await coldStartRecovery?.awaitPeers(() => this.closed);
    release?.();
  }

  /** Leaves the ring after handing over; see `ClusterNode.leave`. */
  async leave(group?: GroupLeave): Promise<void> {
    const { membership, registryMember, timers, writeBehind } = this.parts;
    if (registryMember !== undefined) await this.leaver.deregister(registryMember, group);
    else {
      // Checks that wait for the node to rejoin are decided first.
      await this.joined();
      if (membership.self().state !== 'active') return;
      await this.leaver.leave(group);
    }
    if (writeBehind !== undefined) await Promise.race([writeBehind.flush(), timers.sleep(LAST_WRITE_MS)]);
  }

  /** Ends the heartbeats, and a join that is under way. */
  close(): void {
    this.closed = true;
    this.joiner.close();
    this.stopTicking();
    this.endForming();
  }

  private tick(): void {
    const { clock, membership, replicator, donor, policies, adaptive, table, peerRpc } = this.parts;
    const nowMs = clock.nowMs();
    this.detectPause(nowMs);
    this.pauses.noteRunning(nowMs);
    membership.beat();
    membership.checkTimeouts();
    replicator.checkTimeouts();
    donor.tidy();
    policies.tick();
    adaptive.tick(nowMs);
    table.sweep(Math.ceil(table.size() / SWEEP_STEPS), nowMs);
    // Another node remembers an earlier incarnation: this node has begun the next one, and joins as a new member.
    if (membership.mustJoin() && this.started) this.startJoin();
    if (this.checkingOwnId === undefined) peerRpc.beat();
  }

  private startJoin(): void {
    this.joining ??= this.joiner.join(this.hasJoined ? 0 : (this.options.bootstrapMs ?? 0)).finally(() => {
      this.joining = undefined;
      this.hasJoined ||= this.parts.membership.self().state === 'active';
    });
  }

  private async joined(): Promise<void> {
    while (this.joining !== undefined || this.pauses.asking() !== undefined)
      await (this.pauses.asking() ?? this.joining);
  }

  private endForming(): void {
    this.releaseForming?.();
    this.releaseForming = undefined;
  }
}

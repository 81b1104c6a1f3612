import type { NodeId } from '../limits/ring/ring.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { ColdStartRecovery } from './durability/cold-start-recovery.js';
import type { Donor } from '../replication/donor.js';
import { join } from '../replication/joiner.js';
import { aloneAs, leave } from './leaver.js';
import type { GroupLeave } from './leaver.js';
import type { RegistryMember } from './registry-member.js';
import { createIdCheck } from '../membership/id-check.js';
import type { LeaseHolder } from './leases/holder.js';
import type { DecisionGate } from './decide/decision-gate.js';
import type { Membership } from '../membership/membership.js';
import type { PeerRpc } from '../membership/peer-rpc.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import { createPauseDetector } from '../membership/pause-detector.js';
import type { Clock, Timers } from '../lib/clock.js';
import type { Discovery } from '../membership/discovery.js';
import type { Log } from '../lib/log.js';
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
interface LifecycleDeps {
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
interface Lifecycle {
  /** Finds whether this process paused for so long that others may have acted for it. */
  readonly detectPause: (nowMs: number) => void;
  /** To be called after each change of the ring. */
  readonly ringChanged: () => void;
  /** Why this node is not in a ring yet; `undefined` if it is, or is about to be. */
  readonly waitingFor: () => string | undefined;
  /** Takes a message that came under this node's own id. */
  readonly ownIdReceived: () => void;
  /**
   * Resolves once no other process has the id of this node; `undefined` if that is known. Until then, an answer would
   * speak for that process.
   */
  readonly checkingId: () => Promise<void> | undefined;
  /** Resolves when it is known whether others acted during a pause; `undefined` if there was none. */
  readonly asking: () => Promise<void> | undefined;
  /** Joins the ring; resolves when this node decides. */
  readonly start: () => Promise<void>;
  /** Leaves the ring after handing over; see `ClusterNode.leave`. */
  readonly leave: (group?: GroupLeave) => Promise<void>;
  /** Ends the heartbeats, and a join that is under way. */
  readonly close: () => void;
}

/** A check waits for a peer up to this multiple of the suspicion time. */
const GIVE_UP_FACTOR = 1.5;

export function giveUpMsOf(suspectAfterMs: number): number {
  return Math.ceil(suspectAfterMs * GIVE_UP_FACTOR);
}

/** Ms between two heartbeats. */
export function beatMsOf(suspectAfterMs: number): number {
  return Math.max(1, Math.floor(suspectAfterMs / BEATS));
}

interface LifecycleOptions {
  readonly self: NodeId;
  readonly suspectAfterMs: number;
  readonly bootstrapMs?: number;
  readonly checksId?: boolean;
}

export function createLifecycle(deps: LifecycleDeps, options: LifecycleOptions): Lifecycle {
  const { clock, timers, log, membership, registryMember, gate, policies, writeBehind, coldStartRecovery } = deps;
  const { suspectAfterMs, self } = options;
  const drainMs = suspectAfterMs * BEATS;
  let started = false;
  let idChecked: () => void = () => undefined;
  let checkingId = options.checksId === true ? new Promise<void>((resolve) => (idChecked = resolve)) : undefined;
  let hasJoined = false;
  let closed = false;
  let joining: Promise<void> | undefined;
  let releaseForming: (() => void) | undefined;
  let waitingFor: string | undefined;

  const idCheck = createIdCheck(deps, { timeoutMs: suspectAfterMs, beatMs: beatMsOf(suspectAfterMs) });
  const pauses = createPauseDetector(
    {
      clock,
      log,
      membership,
      ask: deps.peerRpc.ask,
      hold: gate.close,
      rejoin() {
        membership.reincarnate();
        startJoin();
      },
    },
    options,
  );

  function detectPause(nowMs: number): void {
    registryMember?.checkLease(nowMs);
    pauses.detect(nowMs);
  }

  function startJoin(): void {
    joining ??= join(
      {
        ...deps,
        ask: deps.peerRpc.ask,
        beginMerge: (clients) => deps.copies.beginMerge(clients),
        hold: gate.close,
        catchUp: (ids) => policies.catchUp(ids),
        returnToOwners: () => coldStartRecovery?.returnToOwners() ?? Promise.resolve(true),
        isClosed: () => closed,
        noteWaiting: (reason) => (waitingFor = reason),
      },
      { timeoutMs: suspectAfterMs, bootstrapMs: hasJoined ? 0 : (options.bootstrapMs ?? 0) },
    ).finally(() => {
      joining = undefined;
      hasJoined ||= membership.self().state === 'active';
    });
  }

  async function joined(): Promise<void> {
    while (joining !== undefined || pauses.asking() !== undefined) await (pauses.asking() ?? joining);
  }

  /** While the ring has no members, checks wait for it to form, as long as they would wait for a slow owner. */
  function ringChanged(): void {
    const isForming = started && !closed && membership.mustJoin() && membership.ring().members.length === 0;
    if (!isForming) return endForming();
    if (releaseForming !== undefined) return;
    const release = gate.close();
    releaseForming = release;
    void timers.sleep(giveUpMsOf(suspectAfterMs)).then(() => {
      if (releaseForming === release) endForming();
    });
  }

  function endForming(): void {
    releaseForming?.();
    releaseForming = undefined;
  }

  function tick(): void {
    const nowMs = clock.nowMs();
    detectPause(nowMs);
    pauses.noteRunning(nowMs);
    membership.beat();
    membership.checkTimeouts();
    deps.replicator.checkTimeouts();
    deps.donor.tidy();
    policies.tick();
    deps.adaptive.tick(nowMs);
    deps.table.sweep(Math.ceil(deps.table.size() / SWEEP_STEPS), nowMs);
    // Another node remembers an earlier incarnation: this node has begun the next one, and joins as a new member.
    if (membership.mustJoin() && started) startJoin();
    if (checkingId === undefined) deps.peerRpc.beat();
  }

  const stopTicking = timers.every(beatMsOf(suspectAfterMs), tick);

  return {
    detectPause,
    ringChanged,
    waitingFor: () => waitingFor,
    ownIdReceived: idCheck.received,
    checkingId: () => checkingId,
    asking: pauses.asking,
    async start() {
      if (options.checksId === true) await idCheck.run();
      checkingId = undefined;
      idChecked();
      await writeBehind?.load();
      const release = coldStartRecovery?.hasPeersToAwait() === true ? gate.close() : undefined;
      started = true;
      pauses.noteRunning(clock.nowMs());
      startJoin();
      await joined();
      await coldStartRecovery?.awaitPeers(() => closed);
      release?.();
    },
    async leave(group = aloneAs(self)) {
      if (registryMember !== undefined) await registryMember.leave(deps, { drainMs, group });
      else {
        // Checks that wait for the node to rejoin are decided first.
        await joined();
        if (membership.self().state !== 'active') return;
        await leave(deps, { drainMs, group });
      }
      if (writeBehind !== undefined) await Promise.race([writeBehind.flush(), timers.sleep(LAST_WRITE_MS)]);
    },
    close() {
      closed = true;
      stopTicking();
      endForming();
    },
  };
}

import type { NodeId } from '../limits/ring/ring.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import { Placement } from './placement.js';
import { ReplicaQueue } from './replica-queue.js';
import type { Ask } from '../protocol/messages.js';
import type { Clock, Timers } from '../lib/system.js';

/** Pause before a member that has not acknowledged is asked again. */
const RETRY_MS = 25;

/**
 * The rule of strict mode: every node that may decide next knows an admission before the caller gets the answer.
 *
 * Sends copies in batches, like forwards: no timer runs between a decision and its message.
 */
export class Acknowledger {
  private readonly placement: Placement;
  private readonly queue: ReplicaQueue;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly membership: Membership;
      readonly copies: Copies;
      readonly ask: Ask;
      /** Whether this node may decide now. */
      readonly mayDecide: () => boolean;
      readonly replicas: number;
      /** A message that takes a quarter of this time is sent again. */
      readonly suspectAfterMs: number;
      /** How long one acknowledgement may take, with all its retries. */
      readonly giveUpAfterMs: number;
    },
  ) {
    const { clock, timers, membership, copies, ask, replicas, suspectAfterMs } = parts;
    this.placement = new Placement(membership, replicas);
    // A member that is to have no copy any more may be to have one again before the last acknowledgement.
    const showsLeases = (): boolean => true;
    const timeoutMs = Math.ceil(suspectAfterMs / 4);
    this.queue = new ReplicaQueue({ clock, timers, copies, ask, showsLeases, timeoutMs });
  }

  /**
   * Resolves once every member that is to have a copy of this client has its state as of now or later.
   * @returns false if one of them does not acknowledge in time, or this node may not decide any more; then nothing was
   * admitted
   */
  async acknowledge(clientId: string): Promise<boolean> {
    const { membership, clock, giveUpAfterMs, mayDecide, timers } = this.parts;
    const { incarnation } = membership.self();
    const untilMs = clock.nowMs() + giveUpAfterMs;
    const acknowledged = new Set<NodeId>();
    for (;;) {
      // The ring may change meanwhile. The members that are to have a copy under the present ring must have it.
      const missing = this.placement.targetsOf(clientId).filter((id) => !acknowledged.has(id));
      if (!mayDecide() || membership.self().incarnation !== incarnation) return false;
      if (missing.length === 0) return true;
      const kept = await Promise.all(missing.map((id) => this.queue.send(id, clientId)));
      missing.forEach((id, i) => (kept[i] === true ? acknowledged.add(id) : undefined));
      if (kept.every(Boolean)) continue;
      if (clock.nowMs() >= untilMs) return false;
      await timers.sleep(RETRY_MS);
    }
  }

  /** Does the same for several clients. @returns the clients that were acknowledged */
  async acknowledgeAll(clientIds: readonly string[]): Promise<ReadonlySet<string>> {
    const known = await Promise.all(clientIds.map((clientId) => this.acknowledge(clientId)));
    return new Set(clientIds.filter((_, i) => known[i]));
  }
}

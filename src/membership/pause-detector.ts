import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from './membership.js';
import type { Ask } from '../protocol/messages.js';
import type { Clock, Log } from '../lib/system.js';

/**
 * After a pause of this part of the suspicion time, others may have acted for this node. They act after half of that
 * time, counted from the last heartbeat, which may precede the pause by a tenth.
 */
const PAUSE_PART = 0.3;

/**
 * Finds pauses: times in which this process did not run. After a pause, this node decides nothing before it knows
 * whether another node acted for it. Any member of its ring may have, so it asks them all. If none did, it goes on; the
 * pause costs one round trip.
 */
export class PauseDetector {
  private readonly pauseMs: number;
  private runningAtMs: number;
  private pauses = 0;
  private askingOthers: Promise<void> | undefined;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly log: Log;
      readonly membership: Membership;
      readonly ask: Ask;
      /** Makes checks wait until the returned function is called. */
      readonly hold: () => () => void;
      /** Called when another node has acted for this one, or may have: this node has to rejoin. */
      readonly rejoin: () => void;
      /** Also bounds the time that this node waits for the other members. */
      readonly suspectAfterMs: number;
    },
  ) {
    this.pauseMs = Math.ceil(parts.suspectAfterMs * PAUSE_PART);
    this.runningAtMs = parts.clock.nowMs();
  }

  /** Finds whether this process paused until now; to be called before each decision, with the present time. */
  detect(nowMs: number): void {
    const pausedMs = nowMs - this.runningAtMs;
    if (pausedMs >= this.pauseMs) this.paused(nowMs, pausedMs);
  }

  /** Notes that this process runs; to be called several times within a suspicion time. */
  noteRunning(nowMs: number): void {
    this.runningAtMs = nowMs;
  }

  /** Resolves when this node knows whether another one acted for it; `undefined` if there was no pause. */
  asking(): Promise<void> | undefined {
    return this.askingOthers;
  }

  private paused(nowMs: number, pausedMs: number): void {
    const { membership } = this.parts;
    this.runningAtMs = nowMs;
    membership.resetTimers();
    if (
      membership.takeover === 'strict' ||
      membership.self().state !== 'active' ||
      membership.ring().members.length < 2
    )
      return;
    this.pauses += 1;
    this.askingOthers ??= this.askOthers(pausedMs).finally(() => (this.askingOthers = undefined));
  }

  private async askOthers(pausedMs: number): Promise<void> {
    const { membership, log } = this.parts;
    const release = this.parts.hold();
    const { incarnation } = membership.self();
    const isUnchanged = (): boolean =>
      membership.self().state === 'active' && membership.self().incarnation === incarnation;
    let askedAfter: number;
    let by: NodeId | undefined;
    do {
      askedAfter = this.pauses;
      by = await this.findActing();
      // This process may have paused again before it read the answers: then they are too old.
      this.detect(this.parts.clock.nowMs());
    } while (by === undefined && this.pauses !== askedAfter && isUnchanged());
    if (by === undefined) log.info({ pausedMs }, 'paused; no other node acted for this one');
    else if (isUnchanged()) {
      log.warn({ pausedMs, by }, 'paused; another node may have acted for this one, rejoining');
      this.parts.rejoin();
    }
    release();
  }

  /** Resolves with the first member that has acted for this node, or that did not say that it has not. */
  private findActing(): Promise<NodeId | undefined> {
    const { membership } = this.parts;
    const incarnations = membership.incarnations();
    const others = membership.ring().members.filter((id) => id !== membership.self().id);
    let missing = others.length;
    return new Promise((resolve) => {
      if (missing === 0) resolve(undefined);
      for (const id of others) {
        const message = { kind: 'paused', incarnation: incarnations.get(id)! } as const;
        void this.parts.ask(id, message, this.parts.suspectAfterMs).then((asked) => {
          const isClear = asked.kind === 'answer' && asked.body.kind === 'acted' && !asked.body.acted;
          if (!isClear) resolve(id);
          else if ((missing -= 1) === 0) resolve(undefined);
        });
      }
    });
  }
}

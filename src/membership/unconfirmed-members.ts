import type { NodeId } from '../limits/ring/ring.js';
import type { Clock } from '../lib/clock.js';

/** Bound of the addresses that are asked at a time. Others name the rest again. */
const MAX_ASKED = 64;
/** An address that was asked is asked again after this part of the suspicion time, if it is still named. */
const ASKED_AGAIN_PART = 0.2;

/** Addresses of which others say something that counts only from themselves: that members are there, or leave. */
export class UnconfirmedMembers {
  private readonly askedAtMs = new Map<NodeId, number>();
  private readonly toAsk: NodeId[] = [];

  constructor(
    private readonly clock: Clock,
    private readonly suspectAfterMs: number,
  ) {}

  /** Notes that an address was named. */
  name(id: NodeId): void {
    const nowMs = this.clock.nowMs();
    for (const [asked, atMs] of this.askedAtMs)
      if (nowMs - atMs > this.suspectAfterMs * ASKED_AGAIN_PART) this.askedAtMs.delete(asked);
    if (this.askedAtMs.has(id) || this.askedAtMs.size >= MAX_ASKED) return;
    this.askedAtMs.set(id, nowMs);
    this.toAsk.push(id);
  }

  /** Returns the addresses to ask now. */
  take(): readonly NodeId[] {
    return this.toAsk.splice(0);
  }
}

import type { NodeId } from '../limits/ring/ring.js';
import type { Clock } from '../lib/clock.js';

/** Bound of the addresses that are asked at a time. Others name the rest again. */
const MAX_ASKED = 64;
/** An address that was asked is asked again after this part of the suspicion time, if it is still named. */
const ASKED_AGAIN_PART = 0.2;

/** Addresses of which others say something that counts only from themselves: that members are there, or leave. */
interface Unheard {
  /** Notes that an address was named. */
  name(id: NodeId): void;
  /** Returns the addresses to ask now. */
  readonly take: () => readonly NodeId[];
}

export function createUnheard({ clock }: { clock: Clock }, { suspectAfterMs }: { suspectAfterMs: number }): Unheard {
  const askedAtMs = new Map<NodeId, number>();
  const toAsk: NodeId[] = [];

  return {
    name(id) {
      const nowMs = clock.nowMs();
      const isOver = (atMs: number): boolean => nowMs - atMs > suspectAfterMs * ASKED_AGAIN_PART;
      for (const [asked, atMs] of askedAtMs) if (isOver(atMs)) askedAtMs.delete(asked);
      if (askedAtMs.has(id) || askedAtMs.size >= MAX_ASKED) return;
      askedAtMs.set(id, nowMs);
      toAsk.push(id);
    },
    take: () => toAsk.splice(0),
  };
}

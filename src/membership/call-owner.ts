import type { NodeId } from '../limits/ring/ring.js';
import type { PeerAnswer, PeerMessage, Ask } from '../protocol/messages.js';
import type { Timers } from '../lib/clock.js';
import type { Router } from './route.js';

const RETRY_MS = 25;
/** Attempts last this multiple of `timeoutMs`: long enough for a dead owner to be replaced. */
const PATIENCE = 3;

/** A call that only the node that decides for a key may do. It counts once, though it may be sent again. */
export interface OwnerCall<T> {
  readonly key: string;
  /** Does it on this node; `undefined` if this node may not just now. */
  readonly here: () => Promise<T | undefined> | undefined;
  readonly message: PeerMessage;
  /** Reads the result from an answer; `undefined` if the answerer does not decide for the key. */
  readonly outcome: (answer: PeerAnswer) => T | undefined;
}

/**
 * Asks the node that decides for the key, which may change meanwhile, until one has done it.
 * @param timeoutMs of one message; in all the call takes at most four times as long
 * @returns `undefined` if no node has done it in time, as far as this one knows
 */
export async function callOwner<T>(
  { timers, self, ask, router }: { timers: Timers; self: NodeId; ask: Ask; router: Pick<Router, 'deciderOf'> },
  { key, here, message, outcome }: OwnerCall<T>,
  timeoutMs: number,
): Promise<T | undefined> {
  for (let waitedMs = 0; waitedMs < PATIENCE * timeoutMs; waitedMs += RETRY_MS) {
    const to = router.deciderOf(key);
    if (to === self) {
      const result = await here();
      if (result !== undefined) return result;
    } else if (to !== undefined) {
      const asked = await ask(to, message, timeoutMs);
      const result = asked.kind === 'answer' ? outcome(asked.body) : undefined;
      if (result !== undefined) return result;
      if (asked.kind === 'timeout') waitedMs += timeoutMs;
    }
    await timers.sleep(RETRY_MS);
  }
  return undefined;
}

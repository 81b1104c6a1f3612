import type { NodeId } from '../../core/ring.js';
import type { PeerAnswer, PeerMessage } from '../messages.js';
import type { Ask, Timers } from '../ports.js';

const RETRY_MS = 25;
/** In terms of `timeoutMs`: long enough for a decider that died to be replaced. */
const PATIENCE = 3;

/** Something that only the decider of a key may do, wherever that is, and that counts once though it is sent again. */
export interface OwnerCall<T> {
  readonly key: string;
  /** Does it at this node; `undefined` where it may not just now. */
  readonly here: () => Promise<T> | undefined;
  readonly message: PeerMessage;
  /** What became of it, by the decider's answer; `undefined` where that is not the decider any more. */
  readonly outcome: (answer: PeerAnswer) => T | undefined;
}

interface OwnerCallDeps {
  readonly timers: Timers;
  readonly self: NodeId;
  readonly ask: Ask;
  readonly decider: (key: string) => NodeId | undefined;
}

/**
 * Has it done by whoever is the decider, which may change meanwhile.
 * @param timeoutMs of one message; in all it takes three times as long, and once more at most
 * @returns `undefined` where nobody has done it by then, as far as is known here
 */
export async function callOwner<T>(
  { timers, self, ask, decider }: OwnerCallDeps,
  { key, here, message, outcome }: OwnerCall<T>,
  timeoutMs: number,
): Promise<T | undefined> {
  for (let waitedMs = 0; waitedMs < PATIENCE * timeoutMs; waitedMs += RETRY_MS) {
    const to = decider(key);
    if (to === self) {
      const done = here();
      if (done !== undefined) return done;
    } else if (to !== undefined) {
      const asked = await ask(to, message, timeoutMs);
      const told = asked.kind === 'answer' ? outcome(asked.body) : undefined;
      if (told !== undefined) return told;
      if (asked.kind === 'timeout') waitedMs += timeoutMs;
    }
    await timers.sleep(RETRY_MS);
  }
  return undefined;
}

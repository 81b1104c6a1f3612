import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from './membership.js';
import type { Ask } from '../protocol/peer-transport.js';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';

/**
 * After a pause of this part of the suspicion time, others may have acted for this node. They act after half of that
 * time, counted from the last heartbeat, which may precede the pause by a tenth.
 */
const PAUSE_PART = 0.3;

interface PauseDetectorDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly membership: Membership;
  readonly ask: Ask;
  /** Makes checks wait until the returned function is called. */
  readonly hold: () => () => void;
  /** Called when another node has acted for this one, or may have: this node has to rejoin. */
  readonly rejoin: () => void;
}

/**
 * Finds pauses: times in which this process did not run. After a pause, this node decides nothing before it knows
 * whether another node acted for it. Any member of its ring may have, so it asks them all. If none did, it goes on; the
 * pause costs one round trip.
 */
interface PauseDetector {
  /** Finds whether this process paused until now; to be called before each decision, with the present time. */
  readonly detect: (nowMs: number) => void;
  /** Notes that this process runs; to be called several times within a suspicion time. */
  readonly noteRunning: (nowMs: number) => void;
  /** Resolves when this node knows whether another one acted for it; `undefined` if there was no pause. */
  readonly asking: () => Promise<void> | undefined;
}

/** @param options.suspectAfterMs also bounds the time that this node waits for the other members */
export function createPauseDetector(deps: PauseDetectorDeps, options: { suspectAfterMs: number }): PauseDetector {
  const { clock, log, membership, ask, hold, rejoin } = deps;
  const pauseMs = Math.ceil(options.suspectAfterMs * PAUSE_PART);
  let runningAtMs = clock.nowMs();
  let pauses = 0;
  let asking: Promise<void> | undefined;

  function detect(nowMs: number): void {
    const pausedMs = nowMs - runningAtMs;
    if (pausedMs < pauseMs) return;
    runningAtMs = nowMs;
    membership.resetTimers();
    if (!membership.allowsActingOwner || membership.self().state !== 'active' || membership.ring().members.length < 2)
      return;
    pauses += 1;
    asking ??= askOthers(pausedMs).finally(() => (asking = undefined));
  }

  async function askOthers(pausedMs: number): Promise<void> {
    const release = hold();
    const { incarnation } = membership.self();
    const isUnchanged = (): boolean =>
      membership.self().state === 'active' && membership.self().incarnation === incarnation;
    let askedAfter: number;
    let by: NodeId | undefined;
    do {
      askedAfter = pauses;
      by = await findActing();
      // This process may have paused again before it read the answers: then they are too old.
      detect(clock.nowMs());
    } while (by === undefined && pauses !== askedAfter && isUnchanged());
    if (by === undefined) log.info({ pausedMs }, 'paused; no other node acted for this one');
    else if (isUnchanged()) {
      log.warn({ pausedMs, by }, 'paused; another node may have acted for this one, rejoining');
      rejoin();
    }
    release();
  }

  /** Resolves with the first member that has acted for this node, or that did not say that it has not. */
  function findActing(): Promise<NodeId | undefined> {
    const incarnations = membership.incarnations();
    const others = membership.ring().members.filter((id) => id !== membership.self().id);
    let missing = others.length;
    return new Promise((resolve) => {
      if (missing === 0) resolve(undefined);
      for (const id of others) {
        const message = { kind: 'paused', incarnation: incarnations.get(id)! } as const;
        void ask(id, message, options.suspectAfterMs).then((asked) => {
          const isClear = asked.kind === 'answer' && asked.body.kind === 'acted' && !asked.body.acted;
          if (!isClear) resolve(id);
          else if ((missing -= 1) === 0) resolve(undefined);
        });
      }
    });
  }

  return {
    detect,
    noteRunning: (nowMs) => void (runningAtMs = nowMs),
    asking: () => asking,
  };
}

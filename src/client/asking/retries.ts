import type { Time } from '../time.js';

/** Decides whether a question may be asked again, so that failures do not multiply the load of the nodes. */
export interface Retries {
  /** Counts a question. Ten of them earn one retry. */
  asked(): void;
  /** Takes one retry. @returns whether there was one */
  take(): boolean;
  /**
   * Notes that a node has failed.
   * @returns whether its questions may move to other nodes for free: once in ten seconds, as when it has crashed
   */
  failed(address: string): boolean;
  /** Notes that a node accepts no question for this long. */
  rest(address: string, ms: number): void;
  /** Time at which a node may be asked again, in monotonic ms; 0 when it may at once. */
  restsUntilMs(address: string): number;
}

const PER_QUESTION = 0.1;
/** Retries that a client starts with, as it may have asked too little to earn any. */
const FIRST = 10;
/** Bound of saved retries. They serve the questions that wait for a node which has just frozen. */
const MAX = 10_000;
const FREE_EVERY_MS = 10_000;
/** Bound of the pause that a node may request. */
const MAX_REST_MS = 30_000;

export function createRetries(time: Time): Retries {
  let left = FIRST;
  const freeFromMs = new Map<string, number>();
  const restUntilMs = new Map<string, number>();

  return {
    asked: () => void (left = Math.min(MAX, left + PER_QUESTION)),
    take() {
      if (left < 1) return false;
      left -= 1;
      return true;
    },
    failed(address) {
      const nowMs = time.nowMs();
      if (nowMs < (freeFromMs.get(address) ?? -Infinity)) return false;
      freeFromMs.set(address, nowMs + FREE_EVERY_MS);
      for (const [one, fromMs] of freeFromMs) if (fromMs <= nowMs) freeFromMs.delete(one);
      return true;
    },
    rest: (address, ms) => void restUntilMs.set(address, time.nowMs() + Math.min(ms, MAX_REST_MS)),
    restsUntilMs(address) {
      if (restUntilMs.size === 0) return 0;
      const untilMs = restUntilMs.get(address);
      if (untilMs === undefined) return 0;
      if (untilMs > time.nowMs()) return untilMs;
      restUntilMs.delete(address);
      return 0;
    },
  };
}

/** Reason why each node gave no answer, by address. */
export type Failures = ReadonlyMap<string, Error>;

const MAX_SHOWN = 5;

/** Formats failures for an error message: `http://10.0.0.1:8080: connect ECONNREFUSED 10.0.0.1:8080; …`. */
export function describeFailures(failures: Failures): string {
  const shown = [...failures].slice(0, MAX_SHOWN).map(([address, { message }]) => `${address}: ${message}`);
  const more = failures.size - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';

/** Counts of failed requests, by what was tried. */
type Failures = Readonly<Record<'read' | 'grant' | 'renew' | 'write' | 'watch' | 'policies', number>>;

/** Whether the registry answers this node. */
export interface RegistryHealth {
  readonly failures: Failures;
  /** Whether the registry has answered within the time of two renewals. */
  readonly isReachable: () => boolean;
  readonly failed: (what: keyof Failures, reason: string) => void;
  readonly answered: () => void;
  readonly watchEnded: () => void;
}

export function createRegistryHealth(
  { clock, log }: { clock: Clock; log: Log },
  { renewEveryMs }: { renewEveryMs: number },
): RegistryHealth {
  const failures = { read: 0, grant: 0, renew: 0, write: 0, watch: 0, policies: 0 };
  let answeredAtMs = -Infinity;
  let isFailing = false;

  return {
    failures,
    isReachable: () => clock.nowMs() - answeredAtMs < 2 * renewEveryMs,
    failed(what, reason) {
      failures[what] += 1;
      if (!isFailing) log.warn({ what, reason }, 'the registry does not answer');
      isFailing = true;
    },
    answered() {
      answeredAtMs = clock.nowMs();
      if (isFailing) log.info({}, 'the registry answers again');
      isFailing = false;
    },
    watchEnded: () => void (failures.watch += 1),
  };
}

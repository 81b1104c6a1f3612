import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';

/** Whether the registry answers this node. */
export class RegistryHealth {
  /** Counts of failed requests, by what was tried. */
  readonly failures = { read: 0, grant: 0, renew: 0, write: 0, watch: 0, policies: 0 };
  private answeredAtMs = -Infinity;
  private isFailing = false;

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly renewEveryMs: number,
  ) {}

  /** Whether the registry has answered within the time of two renewals. */
  isReachable(): boolean {
    return this.clock.nowMs() - this.answeredAtMs < 2 * this.renewEveryMs;
  }

  failed(what: keyof RegistryHealth['failures'], reason: string): void {
    this.failures[what] += 1;
    if (!this.isFailing) this.log.warn({ what, reason }, 'the registry does not answer');
    this.isFailing = true;
  }

  answered(): void {
    this.answeredAtMs = this.clock.nowMs();
    if (this.isFailing) this.log.info({}, 'the registry answers again');
    this.isFailing = false;
  }
}

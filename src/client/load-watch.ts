import type { LoadReport } from '../limits/request/request.js';
import { TokenringError } from '../lib/error.js';
import type { LoadAnswer } from './nodes/answers.js';
import { warnOnce, type Time } from './runtime.js';

export interface LoadWatchOptions {
  /** The reported latency: the 95th percentile of an interval (default), or its mean. */
  readonly latency?: 'p95' | 'mean';
  /**
   * A load that is also reported, 0 (idle) to 1 (at its limit). It is the fraction of time in which the event loop of
   * this process was busy, or the result of a function. Default: nothing.
   */
  readonly load?: 'event-loop' | (() => number);
  /**
   * Time between reports, plus or minus a tenth: 100 to 60,000 ms. Default 1,000. After 10 s without a report, limits
   * return to those of the policy.
   */
  readonly intervalMs?: number;
  /**
   * Called when a report fails or `load` throws. The next report is sent anyway. Default: a process warning, once for
   * each message.
   */
  readonly onError?: (error: TokenringError) => void;
}

/** Measures the service that an adaptive policy protects, and reports its load. */
export interface LoadWatch {
  /**
   * Begins to measure. Call the returned function at the end, with whether the action succeeded. Further calls, and
   * calls after a minute, do nothing.
   */
  begin(): (ok?: boolean) => void;
  /** Measures an action. A rejection counts as an error. */
  measure<T>(act: () => Promise<T> | T): Promise<T>;
  /**
   * The answer to the last report: the load that the nodes derived from it, and the fraction of the limits then in
   * force.
   */
  last(): LoadAnswer | undefined;
  /** Ends the reports. */
  stop(): void;
}

/** Bound of actions measured at the same time. Further ones are not measured. */
const MAX_IN_PROGRESS = 10_000;
/**
 * Longest duration of a measured action. A longer action is a stream, or its end is not reported. It says nothing about
 * the load, so it is dropped.
 */
const LONGEST_MS = 60_000;

/** Measures the actions of this process, and reports about them at each interval. */
export class ServiceLoadWatch implements LoadWatch {
  private readonly time: Time;
  private readonly report: (report: LoadReport) => Promise<LoadAnswer>;
  private readonly onStop: () => void;
  private readonly onError: (error: TokenringError) => void;
  private readonly intervalMs: number;
  private readonly latency: 'p95' | 'mean';
  private readonly loadNow: (() => number) | undefined;
  private readonly latencies = new Latencies();
  /** Actions in progress, in the order of their beginnings. */
  private readonly inProgress = new Set<{ readonly atMs: number }>();
  private failed = 0;
  private reporting = false;
  private stopped = false;
  private latest: LoadAnswer | undefined;
  private cancel: () => void = () => undefined;

  /**
   * @param parts.report rejects with a TokenringError
   * @throws TypeError that names an option that is not valid
   */
  constructor(parts: {
    time: Time;
    report: (report: LoadReport) => Promise<LoadAnswer>;
    onStop: () => void;
    options: LoadWatchOptions;
  }) {
    const { latency = 'p95', intervalMs = 1_000, onError = warn, load } = parts.options;
    if (!(intervalMs >= 100 && intervalMs <= 60_000))
      throw new TypeError(`intervalMs: ${String(intervalMs)} is not valid, expected 100 to 60000`);
    this.time = parts.time;
    this.report = parts.report;
    this.onStop = parts.onStop;
    this.onError = onError;
    this.intervalMs = intervalMs;
    this.latency = latency;
    this.loadNow = load === 'event-loop' ? this.time.eventLoopMeter() : load;
    this.schedule();
  }

  readonly begin: LoadWatch['begin'] = () => {
    if (this.stopped || this.inProgress.size >= MAX_IN_PROGRESS) return () => undefined;
    const one = { atMs: this.time.nowMs() };
    this.inProgress.add(one);
    return (ok = true) => {
      if (!this.inProgress.delete(one)) return;
      this.latencies.add(this.time.nowMs() - one.atMs);
      if (!ok) this.failed += 1;
    };
  };

  readonly measure: LoadWatch['measure'] = async (act) => {
    const done = this.begin();
    let ok = false;
    try {
      const result = await act();
      ok = true;
      return result;
    } finally {
      done(ok);
    }
  };

  readonly last: LoadWatch['last'] = () => this.latest;

  readonly stop: LoadWatch['stop'] = () => {
    this.stopped = true;
    this.cancel();
    this.inProgress.clear();
    this.onStop();
  };

  private schedule(): void {
    this.cancel = this.time.after(this.intervalMs * (0.9 + 0.2 * this.time.random()), () => {
      this.schedule();
      if (!this.reporting) void this.send();
    });
  }

  private async send(): Promise<void> {
    this.reporting = true;
    try {
      this.latest = await this.report(this.summary());
    } catch (error) {
      // A report that fails because the client ends is not a failure.
      if (!this.stopped) this.onError(error as TokenringError);
    } finally {
      this.reporting = false;
    }
  }

  private summary(): LoadReport {
    const { latencies, inProgress, intervalMs } = this;
    const nowMs = this.time.nowMs();
    const errors = latencies.count === 0 ? 0 : this.failed / latencies.count;
    // If everything hangs, no action ends. So long actions count with their duration so far.
    for (const one of inProgress) {
      const lastedMs = nowMs - one.atMs;
      if (lastedMs < intervalMs) break;
      if (lastedMs < Math.max(LONGEST_MS, 2 * intervalMs)) latencies.add(lastedMs);
      else inProgress.delete(one);
    }
    const latencyMs = Math.min(this.latency === 'mean' ? latencies.mean() : latencies.percentile(0.95), 86_400_000);
    latencies.clear();
    this.failed = 0;
    const load = this.readLoad();
    if (load === undefined || !Number.isFinite(load)) return { latencyMs, errors };
    return { latencyMs, errors, load: Math.min(1, Math.max(0, load)) };
  }

  /**
   * Reads the load. If that throws, the report is sent without it, as without reports the limits return to those of the
   * policy.
   */
  private readLoad(): number | undefined {
    try {
      return this.loadNow?.();
    } catch (cause) {
      this.onError(new TokenringError('no_load', {}, { cause }));
      return undefined;
    }
  }
}

function warn({ code, message }: TokenringError): void {
  warnOnce(`a load could not be reported: ${message}`, code);
}

/** The end of the first histogram bucket. Each bucket ends 5% above the one before, from 0.1 ms to above a day. */
const FIRST_MS = 0.1;
const GROWTH = 1.05;
const BUCKETS = 1 + Math.ceil(Math.log(86_400_000 / FIRST_MS) / Math.log(GROWTH));

/** Durations of one interval, in constant memory. */
export class Latencies {
  private readonly counts = new Uint32Array(BUCKETS);
  private sumMs = 0;
  /** Number of durations since the last `clear`. */
  count = 0;

  add(ms: number): void {
    const above = Math.ceil(Math.log(Math.max(ms, FIRST_MS) / FIRST_MS) / Math.log(GROWTH));
    this.counts[Math.min(above, BUCKETS - 1)]! += 1;
    this.count += 1;
    this.sumMs += ms;
  }

  /** The mean; 0 without any duration. */
  mean(): number {
    return this.count === 0 ? 0 : this.sumMs / this.count;
  }

  /**
   * The duration that this fraction of them does not exceed, at most 5% above the exact one; 0 without any duration.
   */
  percentile(part: number): number {
    if (this.count === 0) return 0;
    let left = Math.ceil(part * this.count);
    let bucket = 0;
    while ((left -= this.counts[bucket]!) > 0) bucket += 1;
    return FIRST_MS * GROWTH ** bucket;
  }

  clear(): void {
    this.counts.fill(0);
    this.count = this.sumMs = 0;
  }
}

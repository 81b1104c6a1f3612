import type { LoadReport } from '../../limits/request/load-report.js';
import { createLatencies } from './latencies.js';
import type { LoadAnswer } from '../asking/read-answer.js';
import { TokenringError } from '../../lib/error.js';
import type { Time } from '../time.js';
import { warnOnce } from '../warn-once.js';

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

interface LoadWatchDeps {
  readonly time: Time;
  /** Rejects with a TokenringError. */
  readonly report: (report: LoadReport) => Promise<LoadAnswer>;
  readonly onStop: () => void;
}

/** @throws TypeError that names an option that is not valid */
export function createLoadWatch({ time, report, onStop }: LoadWatchDeps, options: LoadWatchOptions): LoadWatch {
  const { latency = 'p95', intervalMs = 1_000, onError = warn } = options;
  if (!(intervalMs >= 100 && intervalMs <= 60_000))
    throw new TypeError(`intervalMs: ${String(intervalMs)} is not valid, expected 100 to 60000`);
  const loadNow = options.load === 'event-loop' ? time.eventLoopMeter() : options.load;
  const latencies = createLatencies();
  /** Actions in progress, in the order of their beginnings. */
  const inProgress = new Set<{ readonly atMs: number }>();
  let failed = 0;
  let reporting = false;
  let stopped = false;
  let last: LoadAnswer | undefined;
  let cancel = schedule();

  function schedule(): () => void {
    return time.after(intervalMs * (0.9 + 0.2 * time.random()), tick);
  }

  function tick(): void {
    cancel = schedule();
    if (reporting) return;
    reporting = true;
    void report(summary())
      .then(
        (answer) => {
          last = answer;
        },
        (error: unknown) => {
          // A report that fails because the client ends is not a failure.
          if (!stopped) onError(error as TokenringError);
        },
      )
      .finally(() => (reporting = false));
  }

  function summary(): LoadReport {
    const nowMs = time.nowMs();
    const errors = latencies.count() === 0 ? 0 : failed / latencies.count();
    // If everything hangs, no action ends. So long actions count with their duration so far.
    for (const one of inProgress) {
      const lastedMs = nowMs - one.atMs;
      if (lastedMs < intervalMs) break;
      if (lastedMs < Math.max(LONGEST_MS, 2 * intervalMs)) latencies.add(lastedMs);
      else inProgress.delete(one);
    }
    const latencyMs = Math.min(latency === 'mean' ? latencies.mean() : latencies.percentile(0.95), 86_400_000);
    latencies.clear();
    failed = 0;
    const load = readLoad();
    if (load === undefined || !Number.isFinite(load)) return { latencyMs, errors };
    return { latencyMs, errors, load: Math.min(1, Math.max(0, load)) };
  }

  /**
   * Reads the load. If that throws, the report is sent without it, as without reports the limits return to those of the
   * policy.
   */
  function readLoad(): number | undefined {
    try {
      return loadNow?.();
    } catch (cause) {
      onError(new TokenringError('no_load', {}, { cause }));
      return undefined;
    }
  }

  const watch: LoadWatch = {
    begin() {
      if (stopped || inProgress.size >= MAX_IN_PROGRESS) return () => undefined;
      const one = { atMs: time.nowMs() };
      inProgress.add(one);
      return (ok = true) => {
        if (!inProgress.delete(one)) return;
        latencies.add(time.nowMs() - one.atMs);
        if (!ok) failed += 1;
      };
    },
    async measure(act) {
      const done = watch.begin();
      let ok = false;
      try {
        const result = await act();
        ok = true;
        return result;
      } finally {
        done(ok);
      }
    },
    last: () => last,
    stop() {
      stopped = true;
      cancel();
      inProgress.clear();
      onStop();
    },
  };
  return watch;
}

function warn({ code, message }: TokenringError): void {
  warnOnce(`a load could not be reported: ${message}`, code);
}

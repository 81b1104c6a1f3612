import type { LoadReport } from '../core/adaptive.js';
import { createLatencies } from './latencies.js';
import type { LoadAnswer } from './read-answer.js';
import { TokenringError } from '../core/error.js';
import type { Time } from './time.js';

export interface LoadWatchOptions {
  /** Which latency is reported: the 95th percentile of an interval (default), or its mean. */
  readonly latency?: 'p95' | 'mean';
  /**
   * Reported besides, 0 (idle) to 1 (at its limit): the part of the time in which the event loop of this process was busy, or what a function
   * says. Default: nothing.
   */
  readonly load?: 'event-loop' | (() => number);
  /** A report each, give or take a tenth: 100 to 60,000 ms. Default 1,000; after 10 s without one limits go back to what is written. */
  readonly intervalMs?: number;
  /** Called when a report fails, or `load` throws; the next is sent all the same. Default: a warning of the process, once for each code. */
  readonly onError?: (error: TokenringError) => void;
}

/** Measures what an adaptive policy protects, and reports it. */
export interface LoadWatch {
  /**
   * Something begins. The returned function is called when it ends, with whether it went well; calls after the first, or after a
   * minute, do nothing.
   */
  begin(): (ok?: boolean) => void;
  /** Measures a promise; one that rejects did not go well. */
  measure<T>(act: () => Promise<T> | T): Promise<T>;
  /** What the last report came to: the load that it stood for, and the part of the limits in force then. */
  readonly last: LoadAnswer | undefined;
  /** No reports any more. */
  stop(): void;
}

/** Measured at once; what is beyond is not. */
const MAX_UNDER_WAY = 10_000;
/** What lasts for longer is a stream, or nobody tells its end: it says nothing of the load, and is forgotten. */
const LONGEST_MS = 60_000;

interface LoadWatchDeps {
  readonly time: Time;
  /** Rejects with a TokenringError. */
  readonly report: (report: LoadReport) => Promise<LoadAnswer>;
  readonly onStop: () => void;
}

/** @throws TypeError that names an option that is not valid */
export function createLoadWatch({ time, report, onStop }: LoadWatchDeps, options: LoadWatchOptions): LoadWatch {
  const { latency = 'p95', intervalMs = 1_000, onError = createWarner() } = options;
  if (!(intervalMs >= 100 && intervalMs <= 60_000))
    throw new TypeError(`intervalMs: ${String(intervalMs)} is not valid, expected 100 to 60000`);
  const loadNow = options.load === 'event-loop' ? time.eventLoopMeter() : options.load;
  const latencies = createLatencies();
  /** When what is under way began, in that order. */
  const underWay = new Set<{ readonly atMs: number }>();
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
          // What the end of the client breaks off is no failure.
          if (!stopped) onError(error as TokenringError);
        },
      )
      .finally(() => (reporting = false));
  }

  function summary(): LoadReport {
    const nowMs = time.nowMs();
    const errors = latencies.count === 0 ? 0 : failed / latencies.count;
    // Where all hangs nothing ends: what has lasted for long counts as it is.
    for (const one of underWay) {
      const lastedMs = nowMs - one.atMs;
      if (lastedMs < intervalMs) break;
      if (lastedMs < Math.max(LONGEST_MS, 2 * intervalMs)) latencies.add(lastedMs);
      else underWay.delete(one);
    }
    const latencyMs = Math.min(latency === 'mean' ? latencies.mean() : latencies.percentile(0.95), 86_400_000);
    latencies.clear();
    failed = 0;
    const load = readLoad();
    if (load === undefined || !Number.isFinite(load)) return { latencyMs, errors };
    return { latencyMs, errors, load: Math.min(1, Math.max(0, load)) };
  }

  /** What is known besides is reported without it: limits that nobody reports for go back to what is written. */
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
      if (stopped || underWay.size >= MAX_UNDER_WAY) return () => undefined;
      const one = { atMs: time.nowMs() };
      underWay.add(one);
      return (ok = true) => {
        if (!underWay.delete(one)) return;
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
    get last() {
      return last;
    },
    stop() {
      stopped = true;
      cancel();
      underWay.clear();
      onStop();
    },
  };
  return watch;
}

function createWarner(): (error: TokenringError) => void {
  const warned = new Set<string>();
  return ({ code, message }) => {
    // Codes are a node's word: not without end.
    if (warned.has(code) || warned.size > 20) return;
    warned.add(code);
    process.emitWarning(`a load could not be reported: ${message}`, { type: 'TokenringWarning', code });
  };
}

import type { BatchDecider } from '../../limits/decide/check-batch.js';
import { WITHOUT_POLICIES, type Policies } from '../../policy/active-policies.js';
import type { Source } from '../../limits/decide/decision.js';
import { TokenringError } from '../../lib/error.js';
import type { Access } from './access/access.js';
import { createArrivingBytes, type ArrivingBytes } from './arriving.js';
import { countDuration, countProblem, type Counters } from './counters.js';
import { Turns } from './turns.js';
import { createWaiting, type Waiting, type WaitingBounds } from './waiting.js';

const MIB = 1024 * 1024;

/** Log for causes that callers must not see. It never gets a client id. */
export interface ErrorLog {
  error(fields: object, message: string): void;
}

interface EdgeDeps {
  readonly limiter: BatchDecider;
  /** Policies that requests may name. Default: none. */
  readonly policies?: Policies;
  readonly access: Access;
  readonly counters: Counters;
  readonly elapsedMs: () => number;
  readonly log: ErrorLog;
}

/** The servers of a node, one for each protocol, share this: the limiter, who may ask it, and the bounds on all. */
export interface Edge extends Required<EdgeDeps> {
  /** The memory for requests that have not arrived in full, or that wait while one is answered. */
  readonly arriving: ArrivingBytes;
  readonly waiting: Waiting;
  /** The time of one turn of the event loop that all protocols share. */
  readonly turns: Turns;
  /** Counts a request that the caller has counted as in flight, and answers now. @param nowMs the time, if known */
  readonly answered: (source: Source | 'batch', startMs: number, nowMs?: number) => void;
  /**
   * Counts a request that the caller has counted as in flight, and answers with a problem.
   * @returns the problem, without a cause that callers must not see
   */
  readonly failed: (error: unknown) => TokenringError;
}

/** The answer of every server before the node has joined the ring. */
export function notJoined(): TokenringError {
  return new TokenringError('unavailable', { detail: 'this node has not joined the ring yet' });
}

export function createEdge(
  deps: EdgeDeps,
  bounds: Pick<WaitingBounds, 'maxInFlight'> & {
    readonly maxArrivingBytes?: number;
    readonly maxWaitingBytes?: number;
  },
): Edge {
  const { policies = WITHOUT_POLICIES, counters, elapsedMs, log } = deps;
  const { maxArrivingBytes = 64 * MIB, maxWaitingBytes = 64 * MIB, maxInFlight } = bounds;
  return {
    ...deps,
    policies,
    arriving: createArrivingBytes(maxArrivingBytes),
    waiting: createWaiting({ maxInFlight, maxWaitingBytes }),
    turns: new Turns({ nowMs: elapsedMs, defer: setImmediate }),
    answered(source, startMs, nowMs = elapsedMs()) {
      counters.inFlight -= 1;
      countDuration(counters, source, (nowMs - startMs) / 1000);
    },
    failed(error) {
      const problem = error instanceof TokenringError ? error : new TokenringError('internal', {}, { cause: error });
      if (problem.code === 'internal') log.error({ err: error }, 'a decision failed');
      counters.inFlight -= 1;
      countProblem(counters, problem.code);
      return problem;
    },
  };
}

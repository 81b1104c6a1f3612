import type { BatchDecider, CheckBatch } from '../../limits/decide/check-batch.js';
import { waitingBatchBytes } from '../../limits/heap-bytes.js';
import { WITHOUT_POLICIES, type Policies } from '../../policy/active-policies.js';
import type { Source } from '../../limits/decide/decision.js';
import { TokenringError } from '../../lib/error.js';
import { Turns } from '../../lib/turns.js';
import type { Access } from './access.js';
import { Admission } from './admission.js';
import { ArrivingBytes } from './arriving.js';
import type { Counters } from './counters.js';

const MIB = 1024 * 1024;
/**
 * Longest time in ms that batches, calls of gRPC, commands, and pages take in one turn of the event loop before messages
 * of peers are read. With twice as much, decisions take longer beside 200 connections that ask for pages, and the pages
 * come no faster.
 */
export const TURN_MS = 4;
/** Pieces of work that are no decisions and wait for their turn at once. */
const MAX_WAITING = 1_000;

/** Log for causes that callers must not see. It never gets a client id. */
interface ErrorLog {
  error(fields: object, message: string): void;
}

/** `joining` until the node has joined the ring and its policies are in force; `stopping` from the signal to stop on. */
export type NodeStage = 'joining' | 'ready' | 'stopping';

/**
 * The servers of a node, one for each protocol, share this: the limiter, who may ask it, and the bounds on all. A
 * request for decisions goes through `requireReady`, `answer`, and `decide`, and ends with `answered` or `failed`.
 */
export class ServerContext {
  readonly limiter: BatchDecider;
  /** Policies that requests may name. */
  readonly policies: Policies;
  readonly access: Access;
  readonly counters: Counters;
  readonly stage: () => NodeStage;
  readonly elapsedMs: () => number;
  readonly log: ErrorLog;
  /** The memory for requests that have not arrived in full, or that wait while one is answered. */
  readonly arriving: ArrivingBytes;
  readonly admission: Admission;
  /** The time of one turn of the event loop, shared by all connections of all protocols. */
  readonly turns: Turns;

  constructor(parts: {
    readonly limiter: BatchDecider;
    /** Default: none. */
    readonly policies?: Policies;
    readonly access: Access;
    readonly counters: Counters;
    readonly stage: () => NodeStage;
    readonly elapsedMs: () => number;
    readonly log: ErrorLog;
    readonly maxInFlight: number;
    readonly maxArrivingBytes?: number;
    readonly maxWaitingBytes?: number;
  }) {
    this.limiter = parts.limiter;
    this.policies = parts.policies ?? WITHOUT_POLICIES;
    this.access = parts.access;
    this.counters = parts.counters;
    this.stage = parts.stage;
    this.elapsedMs = parts.elapsedMs;
    this.log = parts.log;
    this.arriving = new ArrivingBytes(parts.maxArrivingBytes ?? 64 * MIB);
    this.admission = new Admission(parts.maxInFlight, parts.maxWaitingBytes ?? 64 * MIB);
    this.turns = new Turns({
      timers: { soon: setImmediate },
      spent: parts.elapsedMs,
      perTurn: TURN_MS,
      maxWaiting: MAX_WAITING,
    });
  }

  /** @throws TokenringError `unavailable` before the node has joined the ring */
  requireJoined(): void {
    if (this.stage() !== 'joining') return;
    throw new TokenringError('unavailable', { detail: 'this node has not joined the ring yet' });
  }

  /** @throws TokenringError `unavailable` before the node has joined, `overloaded` if too many requests wait */
  requireReady(): void {
    this.requireJoined();
    this.admission.requireCapacity();
  }

  /**
   * Answers a request, and counts it among those that wait until it is answered.
   * @param answer returns a promise if the answer comes later
   * @param fail is called with the error that `answer` throws, at once or by rejection
   */
  answer(answer: () => Promise<void> | undefined, fail: (error: unknown) => void): void {
    try {
      const later = answer();
      if (later !== undefined) this.admission.wait(later, fail);
    } catch (error) {
      fail(error);
    }
  }

  /**
   * Decides a batch, and calls `decided` then: at once, or later if the batch waits for other nodes. Its memory counts
   * meanwhile.
   * @param decided returns a promise if it takes several turns
   * @param decider default: the limiter of the node
   * @throws TokenringError `overloaded` if requests that wait take all of the memory
   */
  decide(
    batch: CheckBatch,
    decided: () => Promise<void> | undefined,
    decider: BatchDecider = this.limiter,
  ): Promise<void> | undefined {
    this.admission.requireMemory(batch.size > 1 ? 'batch' : 'check');
    const later = decider.decide(batch);
    return later === undefined ? decided() : this.admission.charge(waitingBatchBytes(batch), later.then(decided));
  }

  /** Counts a request that the caller has counted as in flight, and answers now. @param nowMs the time, if known */
  answered(source: Source | 'batch', startMs: number, nowMs = this.elapsedMs()): void {
    this.counters.inFlight -= 1;
    this.counters.countDuration(source, (nowMs - startMs) / 1000);
  }

  /**
   * Counts a request that the caller has counted as in flight, and answers with a problem.
   * @returns the problem, without a cause that callers must not see
   */
  failed(error: unknown): TokenringError {
    const problem = error instanceof TokenringError ? error : new TokenringError('internal', {}, { cause: error });
    if (problem.code === 'internal') this.log.error({ err: error }, 'a decision failed');
    this.counters.inFlight -= 1;
    this.counters.countProblem(problem.code);
    return problem;
  }
}

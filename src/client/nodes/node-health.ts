import { TokenringError } from '../../lib/error.js';
import type { Time } from '../runtime.js';
import type { Topology } from './topology.js';

/** Failed tries in a row, at least, before the circuit opens. */
const MIN_FAILURES = 3;
/** Pauses between probes while the circuit is open, before jitter: they double from the first to the last. */
export const FIRST_PROBE_MS = 100;
export const LAST_PROBE_MS = 1_000;
const RETRIES_PER_QUESTION = 0.1;
/** Retries that a client starts with, as it may have asked too little to earn any. */
const FIRST_RETRIES = 10;
/** Bound of saved retries. They serve the questions that wait for a node which has just frozen. */
const MAX_RETRIES = 10_000;
const FREE_EVERY_MS = 10_000;
/** Bound of the pause that a node may request. */
const MAX_REST_MS = 30_000;
/** Failures that an error message lists. */
const MAX_SHOWN = 5;

/**
 * Decides from the answers of nodes whether a question may be sent, and whether again.
 *
 * Retries: ten questions earn one, so that failures do not multiply the load of the nodes.
 *
 * The circuit: while it is open, the client sends no question and no call, so that none waits. The refresher probes one
 * node at a time, and the first answer closes the circuit. It opens when a question or call has ended without an answer,
 * the last tries have failed, and every known node fails. An answer in between, also one of overload, or one to a lookup
 * of the members, shows that only that question was slow. A caller who gives up changes nothing.
 */
export class NodeHealth {
  private retries = FIRST_RETRIES;
  private readonly freeFromMs = new Map<string, number>();
  private readonly restUntilMs = new Map<string, number>();
  private failures = 0;
  private hasUnanswered = false;
  private opened = false;
  private probeAtMs = 0;

  /** @param onOpen called when the circuit opens */
  constructor(
    private readonly time: Pick<Time, 'nowMs'>,
    private readonly topology: Topology,
    private readonly onOpen: () => void,
  ) {}

  /** Counts a question. Ten of them earn one retry. */
  asked(): void {
    this.retries = Math.min(MAX_RETRIES, this.retries + RETRIES_PER_QUESTION);
  }

  /** Takes one retry. @returns whether there was one */
  takeRetry(): boolean {
    if (this.retries < 1) return false;
    this.retries -= 1;
    return true;
  }

  /** Notes that some node lives: it has answered, even if only that it is overloaded. */
  answered(): void {
    this.failures = 0;
    this.hasUnanswered = this.opened = false;
  }

  /** Notes a try that has failed. */
  failed(address: string): void {
    this.topology.fails(address);
    this.failures += 1;
    this.openIfDown();
  }

  /**
   * Tells whether the questions of a node that has failed may move to other nodes for free: once in ten seconds, as when
   * it has crashed.
   */
  movesFreely(address: string): boolean {
    const nowMs = this.time.nowMs();
    if (nowMs < (this.freeFromMs.get(address) ?? -Infinity)) return false;
    this.freeFromMs.set(address, nowMs + FREE_EVERY_MS);
    for (const [one, fromMs] of this.freeFromMs) if (fromMs <= nowMs) this.freeFromMs.delete(one);
    return true;
  }

  /** Notes a question or call that has ended without an answer of any node. */
  unanswered(): void {
    this.hasUnanswered = true;
    this.openIfDown();
  }

  /** Notes that a node accepts no question for this long. */
  rest(address: string, ms: number): void {
    this.restUntilMs.set(address, this.time.nowMs() + Math.min(ms, MAX_REST_MS));
  }

  /** Time at which a node may be asked again, in monotonic ms; 0 when it may at once. */
  restsUntilMs(address: string): number {
    if (this.restUntilMs.size === 0) return 0;
    const untilMs = this.restUntilMs.get(address);
    if (untilMs === undefined) return 0;
    if (untilMs > this.time.nowMs()) return untilMs;
    this.restUntilMs.delete(address);
    return 0;
  }

  isOpen(): boolean {
    return this.opened;
  }

  /** Notes the time of the next probe, in monotonic ms. */
  probesAt(atMs: number): void {
    this.probeAtMs = atMs;
  }

  /** Returns the error of a question or call that is not sent; `undefined` while the circuit is closed. */
  refusal(): TokenringError | undefined {
    if (!this.opened) return undefined;
    const retryAfterMs = Math.max(FIRST_PROBE_MS, Math.ceil(this.probeAtMs - this.time.nowMs()));
    const detail = `no node answers; the next try is in ${retryAfterMs} ms`;
    return new TokenringError('no_answer', { detail, retryAfterMs });
  }

  private openIfDown(): void {
    if (this.opened || !this.hasUnanswered || this.failures < MIN_FAILURES || !this.topology.allFail()) return;
    this.opened = true;
    this.onOpen();
  }
}

/** Reason why each node gave no answer, by address. */
type Failures = ReadonlyMap<string, Error>;

/**
 * Creates the error of a question that no node has answered. Without a failure, every node rests.
 * @param namesReason whether the code is that of the last problem, also of one beside `overloaded`
 */
export function noAnswer(failures: Failures | undefined, namesReason: boolean): TokenringError {
  const cause = failures && [...failures.values()].at(-1);
  if (cause === undefined) return new TokenringError('overloaded', { detail: 'every node has asked for a pause' });
  // For example `http://10.0.0.1:8080: connect ECONNREFUSED 10.0.0.1:8080; …`.
  const shown = [...failures!].slice(0, MAX_SHOWN).map(([address, { message }]) => `${address}: ${message}`);
  if (failures!.size > MAX_SHOWN) shown.push(`and ${failures!.size - MAX_SHOWN} more`);
  const isTold = cause instanceof TokenringError && (namesReason || cause.code === 'overloaded');
  return new TokenringError(isTold ? cause.code : 'no_answer', { detail: shown.join('; ') }, { cause });
}

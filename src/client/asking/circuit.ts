import { TokenringError } from '../../lib/error.js';
import type { Time } from '../time.js';
import type { Topology } from '../topology/topology.js';

/** Failed tries in a row, at least, before the circuit opens. */
const MIN_FAILURES = 3;
/** Pauses between probes while the circuit is open, before jitter: they double from the first to the last. */
export const FIRST_PROBE_MS = 100;
export const LAST_PROBE_MS = 1_000;

/**
 * Tells whether any node answers. While the circuit is open, the client sends no question and no call, so that none
 * waits. The refresher probes one node at a time, and the first answer closes the circuit.
 *
 * It opens when a question or call has ended without an answer, the last tries have failed, and every known node fails.
 * An answer in between, also one of overload, or one to a lookup of the members, shows that only that question was
 * slow. A caller who gives up changes nothing.
 */
export class Circuit {
  private failures = 0;
  private hasUnanswered = false;
  private opened = false;
  private probeAtMs = 0;

  constructor(
    private readonly time: Pick<Time, 'nowMs'>,
    private readonly topology: Pick<Topology, 'allFail'>,
    private readonly onOpen: () => void,
  ) {}

  isOpen(): boolean {
    return this.opened;
  }

  /** Notes that some node lives: it has answered, even if only that it is overloaded. */
  answered(): void {
    this.failures = 0;
    this.hasUnanswered = this.opened = false;
  }

  /** Notes a try that has failed. */
  failed(): void {
    this.failures += 1;
    this.openIfDown();
  }

  /** Notes a question or call that has ended without an answer of any node. */
  unanswered(): void {
    this.hasUnanswered = true;
    this.openIfDown();
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

import { isClosed, type Decision } from '../limits/decide/decision.js';
import { parseDuration } from '../limits/duration.js';
import { TokenringError } from '../lib/error.js';
import type { AcquireOptions, Limiter } from '../limits/request/limiter.js';
import { badValue, isWhole } from '../lib/mistake.js';
import type { AllowRequest } from '../limits/request/request.js';
import type { Time } from './runtime.js';

/** Bound of requests of one limiter that wait for their turn. */
const MAX_WAITERS = 1_000;
const MAX_WAIT_MS = 3_600_000;

/** Valid waits, for messages. */
export const EXPECTED_WAIT = 'whole milliseconds or "500ms", "2s", up to "1h"';

/** Returns the longest wait in ms; `undefined` for a value that is not valid. */
export function waitMsOf(wait: unknown): number | undefined {
  const ms = typeof wait === 'string' ? parseDuration(wait) : wait;
  return isWhole(ms, 0, MAX_WAIT_MS) ? ms : undefined;
}

interface Waiter {
  readonly request: AllowRequest;
  readonly untilMs: number;
  readonly resolve: (decision: Decision) => void;
  readonly reject: (reason: unknown) => void;
  readonly stopListening: () => void;
}

/** The requests that wait for the same tokens. */
interface Queue {
  /** In the order of arrival. One that is done is not among them. */
  readonly waiters: Set<Waiter>;
  /** Time at which the first waiter asks again, and the denial that gave this time. */
  againAtMs: number;
  denial: Decision | undefined;
  /** Ends the sleep until then. */
  wake: () => void;
}

/**
 * Lets denied requests wait. Requests of one client under one limit pass in the order in which they came. Only the
 * first of them asks, at the time at which, by its denial, it could pass.
 */
export class AcquireQueue {
  private readonly queues = new Map<string, Queue>();
  private waiters = 0;

  constructor(
    private readonly check: Limiter['check'],
    private readonly time: Pick<Time, 'nowMs' | 'every'>,
  ) {}

  /** @param options callers without types may give none */
  acquire(request: AllowRequest, options: AcquireOptions | undefined): Promise<Decision> {
    const { wait, signal }: Partial<AcquireOptions> = options ?? {};
    const waitMs = waitMsOf(wait);
    if (waitMs === undefined)
      return Promise.reject(new TokenringError('invalid_request', badValue('wait', wait, EXPECTED_WAIT)));
    const key = keyOf(request);
    const begun = this.queues.get(key);
    if (this.waiters >= MAX_WAITERS)
      // A question now could overtake those that wait.
      return begun?.denial === undefined
        ? this.check(request)
        : Promise.resolve(this.asOfNow(begun.denial, begun.againAtMs));
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const queue = begun ?? { waiters: new Set<Waiter>(), againAtMs: 0, denial: undefined, wake: () => undefined };
      const abort = (): void => this.giveUp(waiter, queue, signal?.reason);
      const stopListening = (): void => signal?.removeEventListener('abort', abort);
      const waiter = { request, untilMs: this.time.nowMs() + waitMs, resolve, reject, stopListening };
      this.waiters += 1;
      signal?.addEventListener('abort', abort, { once: true });
      queue.waiters.add(waiter);
      if (begun !== undefined) return this.denyInVain(waiter, queue);
      this.queues.set(key, queue);
      void this.serve(key, queue);
    });
  }

  /** Rejects all that wait, as closed. */
  close(): void {
    for (const queue of this.queues.values())
      for (const waiter of queue.waiters) this.giveUp(waiter, queue, new TokenringError('closed'));
  }

  private async serve(key: string, queue: Queue): Promise<void> {
    for (let first = firstOf(queue); first !== undefined; first = firstOf(queue)) await this.ask(first, queue);
    this.queues.delete(key);
  }

  private async ask(waiter: Waiter, queue: Queue): Promise<void> {
    let decision: Decision;
    try {
      decision = await this.check(waiter.request);
    } catch (error) {
      return this.finish(waiter, queue, () => waiter.reject(error));
    }
    const { allowed, retryAfterMs } = decision;
    // Without a node, no time is known at which it could pass.
    if (allowed || isClosed(decision)) return this.finish(waiter, queue, () => waiter.resolve(decision));
    queue.againAtMs = retryAfterMs === null ? Infinity : this.time.nowMs() + retryAfterMs;
    queue.denial = decision;
    const waits = queue.waiters.has(waiter) && queue.againAtMs <= waiter.untilMs;
    // Behind one that waits, all wait as long. Behind one that does not, a smaller cost may pass sooner.
    for (const one of queue.waiters) if (waits || costOf(one) >= costOf(waiter)) this.denyInVain(one, queue);
    if (waits) await this.sleep(queue);
    queue.denial = undefined;
  }

  /** Sleeps until the first waiter asks again. Keeps the process alive, as a caller waits. */
  private sleep(queue: Queue): Promise<void> {
    return new Promise((resolve) => {
      const sleepMs = Math.max(1, Math.ceil(queue.againAtMs - this.time.nowMs()));
      const stop = this.time.every(sleepMs, () => queue.wake());
      queue.wake = () => {
        stop();
        resolve();
      };
    });
  }

  /** Denies a request that cannot pass before its time ends. */
  private denyInVain(waiter: Waiter, queue: Queue): void {
    const { againAtMs, denial } = queue;
    if (denial === undefined || againAtMs <= waiter.untilMs) return;
    this.finish(waiter, queue, () => waiter.resolve(this.asOfNow(denial, againAtMs)));
  }

  private giveUp(waiter: Waiter, queue: Queue, reason: unknown): void {
    const isFirst = firstOf(queue) === waiter;
    this.finish(waiter, queue, () => waiter.reject(reason));
    const next = firstOf(queue);
    // The denial of the first holds for the same cost and for larger ones.
    if (next === undefined || (isFirst && costOf(next) < costOf(waiter))) queue.wake();
  }

  private finish(waiter: Waiter, queue: Queue, end: () => void): void {
    if (!queue.waiters.delete(waiter)) return;
    waiter.stopListening();
    this.waiters -= 1;
    end();
  }

  private asOfNow(denial: Decision, againAtMs: number): Decision {
    if (denial.retryAfterMs === null) return denial;
    return Object.assign({}, denial, { retryAfterMs: Math.max(1, Math.ceil(againAtMs - this.time.nowMs())) });
  }
}

function firstOf({ waiters }: Queue): Waiter | undefined {
  return waiters.values().next().value;
}

function costOf({ request }: Waiter): number {
  return request.cost ?? 1;
}

/** Returns a key that is equal for requests that wait for the same tokens. */
function keyOf({ clientId, scope, limit, window, windowMs, burst, algorithm, limits, policy }: AllowRequest): string {
  return JSON.stringify([clientId, scope, limit, window, windowMs, burst, algorithm, limits, policy]);
}

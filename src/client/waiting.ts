import { isClosed } from '../limits/decide/decision.js';
import type { Decision } from '../limits/decide/decision.js';
import { parseDuration } from '../limits/duration.js';
import { TokenringError } from '../lib/error.js';
import type { AcquireOptions, Limiter } from '../limits/request/limiter.js';
import { badValue } from '../lib/mistake.js';
import type { AllowRequest } from '../limits/request/request.js';
import type { Time } from './time.js';

/** Bound of requests of one limiter that wait for their turn. */
const MAX_WAITERS = 1_000;
const MAX_WAIT_MS = 3_600_000;

/** Valid waits, for messages. */
export const EXPECTED_WAIT = 'whole milliseconds or "500ms", "2s", up to "1h"';

/** Returns the longest wait in ms; `undefined` for a value that is not valid. */
export function waitMsOf(wait: unknown): number | undefined {
  const ms = typeof wait === 'string' ? parseDuration(wait) : wait;
  return typeof ms === 'number' && Number.isInteger(ms) && ms >= 0 && ms <= MAX_WAIT_MS ? ms : undefined;
}

interface Waiter {
  readonly request: AllowRequest;
  readonly untilMs: number;
  readonly resolve: (decision: Decision) => void;
  readonly reject: (reason: unknown) => void;
  stopListening: () => void;
}

interface Queue {
  /** In the order of arrival. One that is done is not among them. */
  readonly waiters: Set<Waiter>;
  /** Time at which the first waiter asks again, and the denial that gave this time. */
  againAtMs: number;
  denial: Decision | undefined;
  /** Ends the sleep until then. */
  wake: () => void;
}

interface Waiting {
  readonly acquire: Limiter['acquire'];
  /** Rejects all that wait, as closed. */
  readonly close: () => void;
}

/**
 * Lets denied requests wait. Requests of one client under one limit pass in the order in which they came. Only the
 * first of them asks, at the time at which, by its denial, it could pass.
 */
export function createWaiting({
  check,
  time,
}: {
  check: Limiter['check'];
  time: Pick<Time, 'nowMs' | 'every'>;
}): Waiting {
  const queues = new Map<string, Queue>();
  let waiters = 0;

  /** Sleeps until the first waiter asks again. Keeps the process alive, as a caller waits. */
  function sleep(queue: Queue): Promise<void> {
    return new Promise((resolve) => {
      const stop = time.every(Math.max(1, Math.ceil(queue.againAtMs - time.nowMs())), () => queue.wake());
      queue.wake = () => {
        stop();
        resolve();
      };
    });
  }

  function finish(waiter: Waiter, queue: Queue, end: () => void): void {
    if (!queue.waiters.delete(waiter)) return;
    waiter.stopListening();
    waiters -= 1;
    end();
  }

  function giveUp(waiter: Waiter, queue: Queue, reason: unknown): void {
    const isFirst = firstOf(queue) === waiter;
    finish(waiter, queue, () => waiter.reject(reason));
    const next = firstOf(queue);
    // The denial of the first holds for the same cost and for larger ones.
    if (next === undefined || (isFirst && costOf(next) < costOf(waiter))) queue.wake();
  }

  async function serve(key: string, queue: Queue): Promise<void> {
    for (let first = firstOf(queue); first !== undefined; first = firstOf(queue)) await ask(first, queue);
    queues.delete(key);
  }

  async function ask(waiter: Waiter, queue: Queue): Promise<void> {
    let decision: Decision;
    try {
      decision = await check(waiter.request);
    } catch (error) {
      return finish(waiter, queue, () => waiter.reject(error));
    }
    const { allowed, retryAfterMs } = decision;
    // Without a node, no time is known at which it could pass.
    if (allowed || isClosed(decision)) return finish(waiter, queue, () => waiter.resolve(decision));
    queue.againAtMs = retryAfterMs === null ? Infinity : time.nowMs() + retryAfterMs;
    queue.denial = decision;
    const waits = queue.waiters.has(waiter) && queue.againAtMs <= waiter.untilMs;
    // Behind one that waits, all wait as long. Behind one that does not, a smaller cost may pass sooner.
    for (const one of queue.waiters) if (waits || costOf(one) >= costOf(waiter)) denyInVain(one, queue);
    if (waits) await sleep(queue);
    queue.denial = undefined;
  }

  /** Denies a request that cannot pass before its time ends. */
  function denyInVain(waiter: Waiter, queue: Queue): void {
    const { againAtMs, denial } = queue;
    if (denial === undefined || againAtMs <= waiter.untilMs) return;
    finish(waiter, queue, () => waiter.resolve(asOfNow(denial, againAtMs)));
  }

  function asOfNow(denial: Decision, againAtMs: number): Decision {
    if (denial.retryAfterMs === null) return denial;
    return Object.assign({}, denial, { retryAfterMs: Math.max(1, Math.ceil(againAtMs - time.nowMs())) });
  }

  /** @param options callers without types may give none */
  function acquire(request: AllowRequest, options: AcquireOptions | undefined): Promise<Decision> {
    const { wait, signal }: Partial<AcquireOptions> = options ?? {};
    const waitMs = waitMsOf(wait);
    if (waitMs === undefined)
      return Promise.reject(new TokenringError('invalid_request', badValue('wait', wait, EXPECTED_WAIT)));
    const key = keyOf(request);
    const begun = queues.get(key);
    if (waiters >= MAX_WAITERS)
      // A question now could overtake those that wait.
      return begun?.denial === undefined ? check(request) : Promise.resolve(asOfNow(begun.denial, begun.againAtMs));
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const queue = begun ?? { waiters: new Set<Waiter>(), againAtMs: 0, denial: undefined, wake: () => undefined };
      const abort = (): void => giveUp(waiter, queue, signal?.reason);
      const stopListening = (): void => signal?.removeEventListener('abort', abort);
      const untilMs = time.nowMs() + waitMs;
      const waiter: Waiter = { request, untilMs, resolve, reject, stopListening };
      waiters += 1;
      signal?.addEventListener('abort', abort, { once: true });
      queue.waiters.add(waiter);
      if (begun !== undefined) return denyInVain(waiter, queue);
      queues.set(key, queue);
      void serve(key, queue);
    });
  }

  return {
    acquire,
    close() {
      for (const queue of queues.values())
        for (const waiter of queue.waiters) giveUp(waiter, queue, new TokenringError('closed'));
    },
  };
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

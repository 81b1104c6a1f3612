import type { Decision } from '../core/decision.js';
import { TokenringError } from '../core/error.js';
import type { Limiter } from '../core/limiter.js';
import type { AllowRequest } from '../core/request.js';
import type { Time } from './time.js';

/** Bound of requests of one limiter that wait for their turn. */
const MAX_WAITERS = 1_000;
const MAX_WAIT_MS = 3_600_000;

interface Waiter {
  readonly request: AllowRequest;
  readonly untilMs: number;
  isDone: boolean;
  readonly resolve: (decision: Decision) => void;
  readonly reject: (reason: unknown) => void;
}

interface Queue {
  readonly waiters: Waiter[];
  /** Time at which the first waiter asks again, and the denial that gave this time. */
  againAtMs: number;
  denial: Decision | undefined;
}

/**
 * Lets denied requests wait. Requests of one client under one limit pass in the order in which they came. Only the
 * first of them asks, at the time at which, by its denial, it could pass.
 */
export function createAcquire({
  check,
  time,
}: {
  check: Limiter['check'];
  time: Pick<Time, 'nowMs' | 'every'>;
}): Limiter['acquire'] {
  const queues = new Map<string, Queue>();
  let waiters = 0;

  /** Sleeps and keeps the process alive, as a caller waits. */
  function sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = time.every(Math.max(1, Math.ceil(ms)), () => {
        stop();
        resolve();
      });
    });
  }

  function finish(waiter: Waiter, end: () => void): void {
    if (waiter.isDone) return;
    waiter.isDone = true;
    waiters -= 1;
    end();
  }

  async function serve(key: string, queue: Queue): Promise<void> {
    const { waiters: inOrder } = queue;
    for (let first = inOrder[0]; first !== undefined; first = inOrder[0]) {
      if (first.isDone) inOrder.shift();
      else await ask(first, queue);
    }
    queues.delete(key);
  }

  async function ask(waiter: Waiter, queue: Queue): Promise<void> {
    let decision: Decision;
    try {
      decision = await check(waiter.request);
    } catch (error) {
      return finish(waiter, () => waiter.reject(error));
    }
    const { allowed, retryAfterMs } = decision;
    if (allowed) return finish(waiter, () => waiter.resolve(decision));
    queue.againAtMs = retryAfterMs === null ? Infinity : time.nowMs() + retryAfterMs;
    queue.denial = decision;
    for (const one of queue.waiters) denyInVain(one, queue);
    if (!waiter.isDone) await sleep(queue.againAtMs - time.nowMs());
  }

  /** Denies a request that cannot pass before its time ends. */
  function denyInVain(waiter: Waiter, { againAtMs, denial }: Queue): void {
    if (denial === undefined || againAtMs <= waiter.untilMs) return;
    const retryAfterMs = denial.retryAfterMs === null ? null : Math.max(1, Math.ceil(againAtMs - time.nowMs()));
    finish(waiter, () => waiter.resolve({ ...denial, retryAfterMs }));
  }

  return (request, options) => {
    // Callers without types may give no options.
    const { waitMs, signal } = (options as typeof options | undefined) ?? { waitMs: NaN, signal: undefined };
    if (!(waitMs >= 0 && waitMs <= MAX_WAIT_MS)) {
      const expected = `0 to ${MAX_WAIT_MS} ms`;
      return Promise.reject(new TokenringError('invalid_request', { field: 'waitMs', expected }));
    }
    if (waiters >= MAX_WAITERS) return check(request);
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const waiter: Waiter = { request, untilMs: time.nowMs() + waitMs, isDone: false, resolve, reject };
      waiters += 1;
      signal?.addEventListener('abort', () => finish(waiter, () => reject(signal.reason as Error)), { once: true });
      const key = keyOf(request);
      const queue = queues.get(key);
      if (queue !== undefined) {
        queue.waiters.push(waiter);
        return denyInVain(waiter, queue);
      }
      const begun: Queue = { waiters: [waiter], againAtMs: 0, denial: undefined };
      queues.set(key, begun);
      void serve(key, begun);
    });
  };
}

/** Returns a key that is equal for requests that wait for the same tokens. */
function keyOf({ clientId, limit, window, windowMs, burst, algorithm, limits, policy }: AllowRequest): string {
  return JSON.stringify([clientId, limit, window, windowMs, burst, algorithm, limits, policy]);
}

/** The clock, timers, and random numbers of a client; tests replace them. */
export interface Time {
  /** Monotonic ms. */
  nowMs(): number;
  /** Calls once after `delayMs`; the returned function cancels it. Does not keep the process alive. */
  after(delayMs: number, action: () => void): () => void;
  /** Calls every `intervalMs` until the returned function is called. Keeps the process alive. */
  every(intervalMs: number, tick: () => void): () => void;
  /** Calls after the I/O events of this turn, so that answers which have arrived are read first. */
  soon(action: () => void): void;
  /** Returns a number from 0 to below 1. Spreads the timers of clients that start together. */
  random(): number;
  /** Returns the fraction of time, 0 to 1, in which the event loop was busy since its last call. */
  eventLoopMeter(): () => number;
}

const { Deno: deno } = globalThis as { Deno?: { unrefTimer(id: number): void } };
const hasImmediate = typeof (globalThis as { setImmediate?: unknown }).setImmediate === 'function';

export const systemTime: Time = {
  nowMs: () => performance.now(),
  after(delayMs, action) {
    const timer: unknown = setTimeout(action, delayMs);
    // Timers are objects in Node.js and Bun, and numbers elsewhere.
    if (typeof timer === 'object') (timer as NodeJS.Timeout).unref();
    else deno?.unrefTimer(timer as number);
    return () => clearTimeout(timer as NodeJS.Timeout);
  },
  every(intervalMs, tick) {
    const timer = setInterval(tick, intervalMs);
    return () => clearInterval(timer);
  },
  soon(action) {
    if (hasImmediate) setImmediate(action);
    else setTimeout(action, 0);
  },
  random: Math.random,
  eventLoopMeter() {
    if (typeof (performance as { eventLoopUtilization?: unknown }).eventLoopUtilization !== 'function')
      throw new TypeError('load: "event-loop" needs Node.js; use a function');
    let before = performance.eventLoopUtilization();
    return () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, before);
      before = now;
      return utilization;
    };
  },
};

const warned = new Set<string>();
const MAX_WARNINGS = 100;

/** Emits a warning of the process, or of the console where there is no process. Once for each text. */
export function warnOnce(message: string, code: string): void {
  // Codes and messages may come from a node, so they must not fill the memory.
  if (warned.has(message) || warned.size >= MAX_WARNINGS) return;
  warned.add(message);
  const { process } = globalThis as { process?: Partial<NodeJS.Process> };
  if (process?.emitWarning === undefined) console.warn(`TokenringWarning [${code}]: ${message}`);
  else process.emitWarning(message, { type: 'TokenringWarning', code });
}

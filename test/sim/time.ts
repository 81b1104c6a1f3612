import type { Clock, Timers } from '../../src/lib/system.js';
import type { EventQueue } from './event-queue.js';
import { runIn, type Process } from './process.js';

/** A clock of its own: begun at another time, and too fast or too slow by its rate. */
export function clockOf(
  process: Process,
  queue: EventQueue,
  { offsetMs, rate }: { offsetMs: number; rate: number },
): Clock {
  return {
    nowMs: () => Math.floor(offsetMs + (queue.nowMs - (process.clockStops ? process.pausedMs : 0)) * rate),
  };
}

export function timersOf(process: Process, queue: EventQueue, rate: number): Timers {
  return {
    every(intervalMs, tick) {
      let stopped = false;
      const again = (): void => {
        queue.add(intervalMs / rate, () => {
          if (stopped) return;
          runIn(process, 'due', () => {
            if (stopped) return;
            tick();
            again();
          });
        });
      };
      again();
      return () => (stopped = true);
    },
    soon: (action) => queue.add(0, () => runIn(process, 'due', action)),
    sleep: (delayMs) =>
      new Promise((resolve) => queue.add(delayMs / rate, () => runIn(process, 'due', () => resolve()))),
  };
}

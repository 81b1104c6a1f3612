import type { Counters } from '../../src/server/edge/counters.js';
import { systemClock, systemTimers } from '../../src/lib/system.js';
import { Turns } from '../../src/lib/turns.js';
import type { DecisionHandlers } from '../../src/server/http/decisions/handlers.js';
import { Health } from '../../src/server/http/health.js';
import type { HttpServer } from '../../src/server/http/server.js';

const never = (): undefined => undefined;

/** Decision endpoints that never answer. */
export const NO_DECISIONS: DecisionHandlers = {
  allow: never,
  batch: never,
  check: { nginx: never, forwardAuth: never, envoy: never },
};

/** What an HTTP server needs beside its handlers: a node that is ready. */
export function readyNode(counters: Counters): Pick<ConstructorParameters<typeof HttpServer>[0], 'context' | 'health'> {
  const turns = new Turns({ timers: systemTimers, spent: () => systemClock.nowMs(), perTurn: 4 });
  const context = { counters, turns, requireJoined: () => undefined };
  return { context, health: new Health(counters, () => undefined) };
}

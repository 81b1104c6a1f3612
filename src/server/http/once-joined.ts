import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { countProblem } from '../edge/counters.js';
import type { Counters } from '../edge/counters.js';
import { notJoined } from '../edge/edge.js';
import type { DecisionHandlers, Handler } from './decisions/handlers.js';
import { sendProblem } from './send.js';

/** These addresses answer before the node has joined the ring. */
const ALWAYS: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

interface OnceJoined {
  decisions(handlers: DecisionHandlers): DecisionHandlers;
  api(app: RequestListener): RequestListener;
}

/**
 * Answers 503 until the node has joined the ring, except to health checks and metrics. A node listens before it joins.
 */
export function onceJoined({ counters, hasJoined }: { counters: Counters; hasJoined: () => boolean }): OnceJoined {
  function refuse(req: IncomingMessage, res: ServerResponse): void {
    countProblem(counters, 'unavailable');
    sendProblem(req, res, notJoined());
  }
  const gated =
    (handler: Handler): Handler =>
    (req, res) =>
      hasJoined() ? handler(req, res) : refuse(req, res);
  return {
    decisions: ({ allow, batch, check, direct }) => ({
      allow: gated(allow),
      batch: gated(batch),
      check: { nginx: gated(check.nginx), forwardAuth: gated(check.forwardAuth), envoy: gated(check.envoy) },
      ...(direct !== undefined && {
        direct: {
          arriving: direct.arriving,
          allow: (...asked) => hasJoined() && direct.allow(...asked),
          batch: (...asked) => hasJoined() && direct.batch(...asked),
        },
      }),
    }),
    api: (app) => (req, res) =>
      hasJoined() || ALWAYS.has(req.url!.split('?', 1)[0]!) ? app(req, res) : refuse(req, res),
  };
}

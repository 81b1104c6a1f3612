import type { RequestListener } from 'node:http';
import type { Counters } from '../edge/counters.js';
import { notJoined } from '../edge/server-context.js';
import type { DecisionHandlers, Handler } from './decisions/handlers.js';
import { sendProblem } from './send.js';

/** These addresses answer before the node has joined the ring. */
const ALWAYS: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

/**
 * Answers 503 until the node has joined the ring, except to health checks and metrics. A node listens before it joins.
 */
export class OnceJoined {
  constructor(
    private readonly counters: Counters,
    private readonly hasJoined: () => boolean,
  ) {}

  decisions({ allow, batch, check, direct }: DecisionHandlers): DecisionHandlers {
    const { nginx, forwardAuth, envoy } = check;
    return {
      allow: this.gated(allow),
      batch: this.gated(batch),
      check: { nginx: this.gated(nginx), forwardAuth: this.gated(forwardAuth), envoy: this.gated(envoy) },
      ...(direct !== undefined && {
        direct: {
          arriving: direct.arriving,
          allow: (...asked) => this.hasJoined() && direct.allow(...asked),
          batch: (...asked) => this.hasJoined() && direct.batch(...asked),
        },
      }),
    };
  }

  api(answer: RequestListener): RequestListener {
    const gated = this.gated(answer);
    return (req, res) => (ALWAYS.has(req.url!.split('?', 1)[0]!) ? answer(req, res) : gated(req, res));
  }

  private gated(handler: Handler): Handler {
    return (req, res) => {
      if (this.hasJoined()) return handler(req, res);
      this.counters.countProblem('unavailable');
      sendProblem(req, res, notJoined());
    };
  }
}

import type { DecisionHandlers } from '../../src/http/decisions/handlers.js';

const never = (): undefined => undefined;

/** Decision endpoints that never answer. */
export const NO_DECISIONS: DecisionHandlers = {
  allow: never,
  batch: never,
  check: { nginx: never, forwardAuth: never, envoy: never },
};

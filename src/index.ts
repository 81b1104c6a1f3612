import type { Decision } from './cluster/decision.js';
import { createClusterNode } from './cluster/node.js';
import { readCheck } from './http/request.js';
import { DEFAULT_ADVERTISE, DEFAULT_MAX_CLIENTS } from './settings.js';
import type { AllowRequest } from './http/schema.js';
import { VERSION } from './version.js';
import { systemClock, systemTimers } from './system.js';

export type { Decision, Source } from './cluster/decision.js';
export type { LimitFigures } from './core/decide.js';
export type { Algorithm } from './core/rule.js';
export { Problem } from './http/problem.js';
export type { ProblemCode } from './http/problem.js';
export type { AllowRequest } from './http/schema.js';

export interface NodeOptions {
  /** Id of this node, and the `host:port` under which other nodes reach it. Default `127.0.0.1:9080`. */
  readonly advertise?: string;
  /** Clients held at most, 1 to 16,777,216: about 250 bytes each. Default 1,000,000. */
  readonly maxClients?: number;
}

/** A limiter in this process. */
export interface Node {
  /**
   * Whether this client may make one request now, which is then counted.
   * @param limit requests allowed per window: whole, 0 to 1e9; 0 denies all
   * @param window whole ms, or `"10s"`, `"1m"`, `"1h"`, `"1d"`: 1 ms to 366 days
   * @throws Problem `invalid_request`, which names the field
   */
  allow(clientId: string, limit: number, window: number | string): Promise<boolean>;
  /**
   * The full question and the full answer: several limits at once, cost, peek.
   * @throws Problem `invalid_request`, which names the field
   */
  check(request: AllowRequest): Promise<Decision>;
  /** Forgets everything and stops the timers. Calls after it reject. */
  close(): Promise<void>;
}

const nobody = { send: () => Promise.resolve({ kind: 'refused' as const }) };
const silent = { info: () => undefined, warn: () => undefined };
const CLUSTER_DEFAULTS = {
  replicas: 1,
  replicationIntervalMs: 50,
  suspectAfterMs: 1000,
  onUnavailable: 'local' as const,
};

/** Starts a limiter in this process. It keeps no timer that holds the process open. */
export async function createNode(options: NodeOptions = {}): Promise<Node> {
  const { advertise = DEFAULT_ADVERTISE, maxClients = DEFAULT_MAX_CLIENTS } = options;
  const node = createClusterNode(
    {
      clock: systemClock,
      timers: systemTimers,
      transport: nobody,
      discovery: { seeds: () => Promise.resolve([]) },
      log: silent,
    },
    { ...CLUSTER_DEFAULTS, self: advertise, version: VERSION, maxClients },
  );
  await node.start();
  const { limiter } = node;
  let closed = false;
  const decide = (request: unknown): Decision | Promise<Decision> => {
    if (closed) throw new Error('the node is closed');
    return limiter.check(readCheck(request));
  };
  return {
    // Async, so that a bad request rejects rather than throws.
    check: async (request) => decide(request),
    allow: async (clientId, limit, window) => (await decide({ clientId, limit, window })).allowed,
    close() {
      closed = true;
      node.close();
      return Promise.resolve();
    },
  };
}

import type { OnUnavailable } from './cluster/decide/fallback.js';
import type { Log } from './cluster/ports.js';
import type { Decision, Settlement } from './core/decision.js';
import type { AllowRequest } from './core/request.js';
import { createStaticDiscovery } from './discovery/static.js';
import { TokenringError } from './core/error.js';
import { readCheck, readSettle } from './validate/request.js';
import { createMember } from './member.js';
import { SETTINGS } from './setting-table.js';
import { reachableAt, readOptions, requireLoopback } from './settings.js';

export type { Decision, Settlement, Source } from './core/decision.js';
export type { OnUnavailable } from './cluster/decide/fallback.js';
export type { LimitStats } from './core/decide.js';
export type { Algorithm } from './core/rule.js';
export { TokenringError } from './core/error.js';
export type { ErrorCode } from './core/error.js';
export type { AllowRequest, LimitRequest } from './core/request.js';

export interface NodeOptions {
  /** `host:port` of other nodes; some are enough. */
  readonly peers?: readonly string[];
  /** Where this node listens to others. Default `127.0.0.1`; any but loopback needs `peerSecret`. */
  readonly peerHost?: string;
  /** Default 9080; 0 takes a free one. */
  readonly peerPort?: number;
  /** What nodes prove to each other that they know. */
  readonly peerSecret?: string;
  /** `host:port` under which others reach this node; also its id. Default: where it listens. */
  readonly advertise?: string;
  /** How many successors hold a copy, 1 to 5. Default 1. */
  readonly replicas?: number;
  /** What happens when neither the owner of a client nor a successor answers. Default `local`: an equal share of the limit. */
  readonly onUnavailable?: OnUnavailable;
  /** Where to write what happens in the cluster, in the way of pino. Default: nowhere. */
  readonly log?: Log;
  /** Clients held at most, 1 to 16,777,216: about 290 bytes each. Default 1,000,000. */
  readonly maxClients?: number;
}

/** A limiter in this process. */
export interface Node {
  /**
   * Whether this client may make one request now, which is then counted.
   * @param limit requests allowed per window: whole, 0 to 1e9; 0 denies all
   * @param window whole ms, or `"10s"`, `"1m"`, `"1h"`, `"1d"`: 1 ms to 366 days
   * @throws TokenringError `invalid_request`, which names the field
   */
  allow(clientId: string, limit: number, window: number | string): Promise<boolean>;
  /**
   * The full question and the full answer: several limits at once, cost, peek.
   * @throws TokenringError `invalid_request`, which names the field
   */
  check(request: AllowRequest): Promise<Decision>;
  /**
   * Replaces the cost that `check` with `reserve` has taken by the real one: whole, 0 to 1e9. Settling twice counts once.
   * @throws TokenringError `invalid_request`, `unknown_reservation` after ten minutes, `unavailable` when it is to be called again
   */
  settle(reservation: string, cost: number): Promise<Settlement>;
  /** Leaves the ring with nothing forgotten, if there are others in it, and stops. Calls after it reject. */
  close(): Promise<void>;
}

const SILENT = { info: () => undefined, warn: () => undefined };

const OPTIONS = [
  'peers',
  'peerHost',
  'peerPort',
  'peerSecret',
  'advertise',
  'replicas',
  'onUnavailable',
  'maxClients',
] as const satisfies (keyof NodeOptions)[];

/**
 * Starts a limiter in this process; resolves when it decides. By itself it is a ring of its own; with `peers` or `peerPort` it
 * listens to other nodes and shares the clients with them.
 * @throws TypeError that names an option that is unknown or not valid, and what is expected
 * @throws Error of the operating system when the peer port cannot be listened on
 */
export async function createNode({ log = SILENT, ...options }: NodeOptions = {}): Promise<Node> {
  const { peers, peerHost, peerPort, peerSecret, advertise, ...rest } = readOptions(options, OPTIONS);
  if (peerSecret === undefined) requireLoopback('peerHost', peerHost, 'peerSecret');
  const clustered = options.peers !== undefined || options.peerPort !== undefined;
  const member = await createMember({
    ...rest,
    listen: clustered ? { host: peerHost, port: peerPort } : undefined,
    advertise: (port) => advertise ?? reachableAt(peerHost, port || SETTINGS.peerPort.default),
    discovery: createStaticDiscovery(peers),
    secret: peerSecret,
    tls: undefined,
    replicationIntervalMs: SETTINGS.replicationIntervalMs.default,
    suspectAfterMs: SETTINGS.suspectAfterMs.default,
    log,
  });
  await member.join();
  const { checks, activePolicies, settler } = member.node;
  let closed = false;
  const decide = (request: unknown): Decision | Promise<Decision> => {
    if (closed) throw new TokenringError('closed');
    return checks.check(readCheck(request, activePolicies));
  };
  return {
    // Async, so that a bad request rejects rather than throws.
    check: async (request) => decide(request),
    allow: async (clientId, limit, window) => (await decide({ clientId, limit, window })).allowed,
    async settle(reservation, cost) {
      if (closed) throw new TokenringError('closed');
      const { clientId } = readSettle({ reservation, cost });
      const settled = await settler.settle(clientId, reservation, cost);
      if (settled.kind === 'settled') return settled.settlement;
      const code = settled.kind === 'unknown' ? 'unknown_reservation' : 'unavailable';
      throw new TokenringError(code, { field: 'reservation' });
    },
    async close() {
      if (closed) return;
      await member.leave();
      closed = true;
      await member.close();
    },
  };
}

import type { PolicyFileText } from '../policy/policy-file.js';
import type { Log } from '../lib/system.js';
import type { Limiter, OnUnavailable } from '../limits/request/limiter.js';
import { StaticDiscovery } from '../membership/discovery.js';
import { LocalLimiter } from './local-limiter.js';
import { warnOnce } from '../client/runtime.js';
import { createMember } from './member.js';
import { openPolicySource } from './policy-source.js';
import { SETTINGS } from './settings/setting-table.js';
import { reachableAt, readOptions, requireLoopback } from './settings/settings.js';
import { WARNING } from '../store/policy-file.js';
import { openTracing } from './tracing.js';

export type { PolicyFileText };

export interface NodeOptions {
  /** `host:port` of other nodes; some are enough. */
  readonly peers?: readonly string[];
  /** Address on which this node listens to peers. Default `127.0.0.1`; any but loopback needs `peerSecret`. */
  readonly peerHost?: string;
  /** Port on which this node listens to peers. Default 9080; 0 takes a free one. */
  readonly peerPort?: number;
  /**
   * Shared secret that nodes prove to each other. Several are separated by commas: the first is used, all are accepted.
   */
  readonly peerSecret?: string;
  /** Name of the cluster; nodes of another name are refused. Default `default`. */
  readonly cluster?: string;
  /** `host:port` under which peers reach this node; also its id. Default: the address at which it listens. */
  readonly advertise?: string;
  /** Ring successors that hold a copy, 1 to 5. Default 1. */
  readonly replicas?: number;
  /** Decision for a client when neither its owner nor a successor answers. Default `local`. */
  readonly onUnavailable?: OnUnavailable;
  /** Named policies: the contents of a policy file, or the path of a file to watch. Default: none. */
  readonly policies?: string | PolicyFileText;
  /**
   * Store that keeps consumption across restarts: `memory` (default: nothing is kept), `lmdb:PATH`, or `redis://…`.
   */
  readonly store?: string;
  /** Log for cluster events, with the methods of pino. Default: nothing is logged. */
  readonly log?: Log;
  /** Most clients held at once, 1 to 16,777,216. Default 1,000,000. */
  readonly maxClients?: number;
  /** Whether spans of OpenTelemetry name the client. Default false. */
  readonly traceClientIds?: boolean;
}

/** A limiter in this process. */
export type Node = Limiter;

/** Without a log, the process warns only of policies that may not mean what they say. */
const SILENT: Log = {
  info: () => undefined,
  warn(fields, message) {
    if (message === WARNING) warnOnce(`${message}: ${(fields as { detail: string }).detail}`, 'TOKENRING_POLICIES');
  },
};

const OPTIONS = [
  'peers',
  'peerHost',
  'peerPort',
  'peerSecret',
  'cluster',
  'advertise',
  'replicas',
  'onUnavailable',
  'store',
  'maxClients',
  'traceClientIds',
] as const satisfies (keyof NodeOptions)[];

/**
 * Starts a limiter in this process; resolves when it decides. Alone, it is a ring of its own. With `peers` or
 * `peerPort` it listens to other nodes and shares the clients with them.
 * @throws TypeError that names an option that is unknown or not valid, and what is expected
 * @throws Error of the operating system when it cannot listen on the peer port
 */
export async function createNode({ log = SILENT, policies, ...options }: NodeOptions = {}): Promise<Node> {
  const throws = options.onUnavailable === 'throw';
  const read = readOptions(throws ? { ...options, onUnavailable: 'closed' } : options, OPTIONS);
  const { peers, peerHost, peerPort, peerSecret, advertise, store, traceClientIds, ...rest } = read;
  if (peerSecret === undefined) requireLoopback('peerHost', peerHost, 'peerSecret');
  const source = await openPolicySource('policies', policies, undefined, { log, audit: () => undefined });
  const clustered = options.peers !== undefined || options.peerPort !== undefined;
  let id = '';
  const member = await createMember({
    ...rest,
    listen: clustered ? { host: peerHost, port: peerPort, setting: 'peerPort' } : undefined,
    advertise: (port) => (id = advertise ?? reachableAt(peerHost, port || SETTINGS.peerPort.default)),
    discovery: new StaticDiscovery(peers),
    store,
    secret: peerSecret,
    tls: undefined,
    replicationIntervalMs: SETTINGS.replicationIntervalMs.default,
    suspectAfterMs: SETTINGS.suspectAfterMs.default,
    log,
    tracing: await openTracing({ self: () => id, clientIds: traceClientIds }),
  });
  source.connect(member.node);
  await member.join();
  await source.begin();

  return new LocalLimiter(member, throws ? 'throw' : read.onUnavailable, {
    leave() {
      source.close();
      return member.leave();
    },
    close: () => member.close(),
  });
}

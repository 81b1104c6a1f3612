import { randomInt } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { BatchDecider } from '../limits/decide/check-batch.js';
import type { GroupLeave } from '../node/leaver.js';
import { ClusterNode, type ClusterNodeOptions } from '../node/node.js';
import type { Discovery } from '../membership/discovery.js';
import { type Log, systemClock, systemTimers } from '../lib/system.js';
import type { ProcessReport } from '../protocol/messages.js';
import { LmdbStore } from '../store/lmdb.js';
import { parseRedisAddress } from '../store/redis-address.js';
import { RedisStore } from '../store/redis.js';
import type { Store } from '../store/store.js';
import type { PolicyDocument } from '../policy/policy-document.js';
import type { Registry } from '../membership/registry.js';
import { listen, listenOnSocket } from '../lib/listen.js';
import { PeerCounters } from '../protocol/link/counters.js';
import { peerKeysOf } from '../protocol/link/handshake.js';
import { PeerServer } from '../protocol/link/server.js';
import type { PeerTls } from '../protocol/link/tls.js';
import { LinkTransport } from '../protocol/link/transport.js';
import type { Tracing } from './tracing.js';
import { VERSION } from '../lib/version.js';

/**
 * Bound of the time that a leave takes. Without it, peers that do not answer would delay a leave by many suspicion
 * times.
 */
export const LEAVE_GRACE_MS = 5_000;
/** Bound of the time for messages in flight, first for those from peers and then for those to peers. */
const CLOSE_GRACE_MS = 1_000;

/** Options of the cluster node that this file does not set by itself. */
type NodeSettings = Omit<ClusterNodeOptions, 'self' | 'version' | 'url' | 'tableSecret' | 'checksId' | 'leaseAfter'>;

interface MemberSettings extends NodeSettings {
  /**
   * The listener for peers. Without it, this process is a ring of its own. Port 0 takes a free port. `setting` names
   * the port in errors.
   */
  readonly listen: { readonly host: string; readonly port: number; readonly setting: string } | undefined;
  /** Unix sockets of members on this machine, if there are any. */
  readonly sockets?: MemberSockets | undefined;
  /** Returns `host:port` of this node for others, which is also its id, given the port it listens on. */
  readonly advertise: (port: number) => string;
  /** Returns the address of the public API, given the id of this node. */
  readonly url?: (id: string) => string | undefined;
  readonly discovery: Discovery;
  /** Keeps the registrations of all members. Without it, members gossip. Closed with the member. */
  readonly registry?: (Registry & { close(): Promise<void> }) | undefined;
  /** One secret, or several separated by commas: peers prove one that both have, the first if they can. */
  readonly secret: string | undefined;
  /** Nodes of another cluster are refused. */
  readonly cluster: string;
  readonly tls: PeerTls | undefined;
  /** Policies from this node's last run, and the registry that stored them. */
  readonly policies?: { readonly document: PolicyDocument; readonly registry: string | undefined } | undefined;
  /** The value of `TOKENRING_STORE`. */
  readonly store: string;
  readonly log: Log;
  /** Returns the counters of the process, for other members. */
  readonly processReport?: () => ProcessReport | undefined;
  /** Spans for decisions, if this process traces. */
  readonly tracing?: Tracing | undefined;
}

interface MemberSockets {
  /** The socket of this node. */
  socketPath(): string | undefined;
  /** Returns the socket of another member. */
  socketPathOf(id: string): string | undefined;
}

export interface Member {
  readonly node: ClusterNode;
  /** Decides the checks of callers of this node. */
  readonly checks: BatchDecider;
  readonly peers: PeerCounters;
  /** Uses other certificates for new connections, in both directions. */
  useTls(tls: PeerTls): void;
  /** Joins the ring. Resolves when this node decides. */
  join(): Promise<void>;
  /** Leaves the ring without losing state, and continues to forward. Settles within 5 s. */
  leave(group?: GroupLeave): Promise<void>;
  /** Stops the peer listener and all timers within 2 s; with a store, within 3 s. */
  close(): Promise<void>;
}

/**
 * Opens the store, and listens to peers over real sockets and with real time. The node is not in the ring before
 * `join`.
 * @throws StoreError when another version of this program wrote the store
 */
export async function createMember(options: MemberSettings): Promise<Member> {
  const { log, tls, secret, discovery, registry, sockets, processReport, tracing } = options;
  const store = await openStore(options.store, log);
  const peers = new PeerCounters();
  const identity = { cluster: options.cluster, self: () => self, keys: peerKeysOf(secret, options.cluster) };
  const transport = new LinkTransport(
    { counters: peers, identity, log },
    { tls, socketPathOf: (id) => sockets?.socketPathOf(id) },
  );
  const receive: ClusterNode['receive'] = (message) => node.receive(message);
  const server = new PeerServer(
    { receive: tracing?.atOwner(receive) ?? receive, counters: peers, identity, log },
    { tls },
  );
  const port = options.listen === undefined ? 0 : await listen(server.server, options.listen);
  const socketPath = sockets?.socketPath();
  if (socketPath !== undefined) await listenOnSocket(server.local, socketPath);
  const self = options.advertise(port);
  const node = new ClusterNode(
    { clock: systemClock, timers: systemTimers, transport, discovery, registry, log, store, processReport },
    {
      ...options,
      self,
      url: options.url?.(self),
      version: VERSION,
      checksId: options.listen !== undefined,
      tableSecret: randomInt(2 ** 32),
    },
  );
  // Without a registry, the document no longer belongs to one.
  if (options.policies !== undefined)
    node.activePolicies.adopt(options.policies.document, registry && options.policies.registry);
  return {
    node,
    checks: tracing?.atEntry(node.checks) ?? node.checks,
    peers,
    join: () => node.start(),
    useTls(next) {
      server.useTls(next);
      transport.useTls(next);
    },
    leave: (group) => within(LEAVE_GRACE_MS, node.leave(group)),
    async close() {
      if (options.listen !== undefined) await server.close(CLOSE_GRACE_MS);
      // If no other member stayed, this node decided until now.
      if (store !== undefined) await within(CLOSE_GRACE_MS, node.flush());
      node.close();
      await within(CLOSE_GRACE_MS, Promise.all([transport.close(), store?.close(), registry?.close()]));
    },
  };
}

/** Opens a store. One that does not answer is still opened. @returns `undefined` for `memory` */
async function openStore(address: string, log: Log): Promise<Store | undefined> {
  const parts = { log, clock: systemClock, timers: systemTimers, wallMs: Date.now };
  if (address === 'memory') return undefined;
  if (address.startsWith('lmdb:')) return LmdbStore.open(address.slice('lmdb:'.length), parts);
  return RedisStore.open(parseRedisAddress(address)!, parts);
}

/** Waits for the work, but no longer than `graceMs`. */
async function within(graceMs: number, work: Promise<unknown>): Promise<void> {
  const given = new AbortController();
  await Promise.race([work, setTimeout(graceMs, undefined, { signal: given.signal }).catch(() => undefined)]);
  given.abort();
}

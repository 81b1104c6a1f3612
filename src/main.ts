import { existsSync } from 'node:fs';
import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import { readCertificates, watchCertificates } from './certificates.js';
import type { Certificates } from './certificates.js';
import type { Discovery } from './cluster/ports.js';
import { createDnsDiscovery } from './discovery/dns.js';
import { createEtcdRegistry } from './discovery/etcd.js';
import { createStaticDiscovery } from './discovery/static.js';
import type { GroupLink } from './group/link.js';
import type { Figures } from './group/protocol.js';
import { createApi } from './http/api/api.js';
import { createCounters } from './http/metrics/counters.js';
import { createDecisionHandlers } from './http/decisions/handlers.js';
import { createMetrics } from './http/metrics/metrics.js';
import { createPublicServer, DEFAULT_BOUNDS, DEFAULT_TIMEOUTS } from './http/server.js';
import { createGuard } from './guard.js';
import { listen, sharingOf } from './listen.js';
import { createAudit, createLog } from './log.js';
import { createMember, LEAVE_GRACE_MS } from './member.js';
import type { PeerTls } from './peer/tls.js';
import { openPolicySource } from './policy-source.js';
import type { Settings } from './setting-table.js';
import { publicUrlOf, reachableAt } from './settings.js';
import { openStore } from './store/open.js';
import { systemClock } from './system.js';
import { VERSION } from './version.js';

/**
 * How long a stopping node goes on answering, so that balancers see that it is not ready; and how long it may take in all.
 * With what `member.ts` allows after that, it ends within 8 s: Docker kills after 10.
 */
const DRAIN_NOTICE_MS = 500;
const DRAIN_GRACE_MS = LEAVE_GRACE_MS;

/** Where policies are looked for; and the word for nowhere. */
const POLICIES = 'config/policies.json';
const NONE = 'none';

export interface RunningNode {
  /** Where the public API listens. */
  readonly port: number;
  readonly log: Logger;
  /** What it counts. */
  figures(): Promise<Figures>;
  /** Stops as SIGTERM does: not ready, answer what is in flight, close. */
  stop(): Promise<void>;
}

/**
 * Runs one node by its settings until `stop` is called.
 * @param group what it has of the others, where it is one of several workers behind one port
 */
export async function startNode(settings: Settings, group?: GroupLink): Promise<RunningNode> {
  let id = settings.advertise;
  const log = createLog(settings.logLevel, () => id);
  const audit = createAudit(settings.auditLog, log, () => id);
  const guard = createGuard(settings, { log, audit });
  const certificates = readCertificates(settings, 'tls');
  const policyPath = settings.policies ?? (existsSync(POLICIES) ? POLICIES : NONE);
  const statePath = settings.policiesState ?? (policyPath === NONE ? NONE : `${policyPath}.state`);
  const named = (path: string): string | undefined => (path === NONE ? undefined : path);
  const source = await openPolicySource(named(policyPath), named(statePath), { log, audit });
  const store = await openStore(settings.store, { log, clock: systemClock, wallMs: Date.now });
  const member = await createMember({
    ...settings,
    store,
    policies: source.state,
    listen: { host: settings.peerHost, port: settings.peerPort },
    advertise(port) {
      id ??= reachableAt(settings.peerHost, port);
      group?.listens(id, port);
      return id;
    },
    url: (self) => publicUrlOf(settings, self),
    discovery: group === undefined ? discoveryOf(settings, log) : group.withSiblings(discoveryOf(settings, log)),
    registry: registryOf(settings),
    memberTtlMs: settings.etcdLeaseMs,
    secret: settings.peerSecret,
    tls: peerTls(settings, readCertificates(settings, 'peerTls')),
    log,
  });
  const { node } = member;
  const { checks, activePolicies } = node;
  const policyWriter = await source.begin(node);
  const counters = createCounters();
  let ready = false;
  const decisions = createDecisionHandlers(
    {
      limiter: checks,
      policies: activePolicies,
      access: guard.access,
      counters,
      elapsedMs: () => performance.now(),
      log,
    },
    settings,
  );
  const metrics = createMetrics({ counters, cluster: node, peers: member.peers });
  const api = createApi(
    {
      cluster: node,
      activePolicies,
      policyWriter,
      decisions,
      access: guard.access,
      audit,
      counters,
      metrics: group === undefined ? metrics : { contentType: metrics.contentType, metrics: () => group.metrics() },
      isReady: () => ready,
      isWhole: () => group?.isWhole ?? true,
      log,
    },
    { version: VERSION, maxInFlight: settings.maxInFlight },
  );
  const bounds = {
    ...DEFAULT_BOUNDS,
    max: settings.maxConnections,
    maxPerAddress: settings.maxConnectionsPerAddress || Infinity,
  };
  const publicServer = createPublicServer(
    { decisions, api, counters },
    DEFAULT_TIMEOUTS,
    publicTls(settings, certificates),
    bounds,
  );
  const sharing = group === undefined ? 'exclusive' : sharingOf(process.versions.node, process.platform);
  const port = await listen(publicServer.server, settings.port, settings.host, sharing);
  const stopWatching = [
    watchCertificates(settings, 'tls', { log, audit }, (next) => publicServer.useTls(publicTls(settings, next)!)),
    watchCertificates(settings, 'peerTls', { log, audit }, (next) => member.useTls(peerTls(settings, next)!)),
  ];
  ready = true;
  if (group === undefined) log.info({ host: settings.host, port }, 'tokenring ready');
  else {
    log.info({ host: settings.host, port, sharing, pid: process.pid }, 'a worker is up');
    group.isUp();
  }
  return {
    port,
    log,
    figures: () => metrics.getMetricsAsJSON(),
    async stop() {
      ready = false;
      source.close();
      log.info('stopping');
      const drained = publicServer.drain(DRAIN_NOTICE_MS, DRAIN_GRACE_MS);
      await member.leave(group?.groupLeave());
      await drained;
      // Until then another worker may still need this one to decide.
      await group?.drained();
      await member.close();
      guard.close();
      for (const stop of stopWatching) stop();
      await source.saved();
      log.info('stopped');
    },
  };
}

function discoveryOf({ discovery, dnsName, peers }: Settings, log: Logger): Discovery {
  // With a registry there is nobody to be found otherwise.
  if (discovery === 'etcd') return createStaticDiscovery([]);
  return dnsName === undefined
    ? createStaticDiscovery(peers)
    : createDnsDiscovery(dnsName, { clock: systemClock, log });
}

function publicTls(settings: Settings, certificates: Certificates | undefined): TlsOptions | undefined {
  if (certificates === undefined) return undefined;
  const { tlsRequireClientCert: required } = settings;
  return { ...certificates, minVersion: 'TLSv1.2', requestCert: required, rejectUnauthorized: required };
}

function registryOf(settings: Settings): ReturnType<typeof createEtcdRegistry> | undefined {
  if (settings.discovery !== 'etcd') return undefined;
  const { etcdEndpoints, etcdPrefix, etcdUser, etcdPassword, etcdTlsCert, etcdTlsKey, etcdTlsCa } = settings;
  const known = etcdUser !== undefined && etcdPassword !== undefined;
  return createEtcdRegistry({
    endpoints: etcdEndpoints,
    prefix: etcdPrefix,
    user: known ? { name: etcdUser, password: etcdPassword } : undefined,
    tls: { ca: etcdTlsCa, cert: etcdTlsCert, key: etcdTlsKey },
  });
}

/** Nodes behind one DNS name are reached by their addresses: their certificates bear the name. */
function peerTls(settings: Settings, certificates: Certificates | undefined): PeerTls | undefined {
  if (certificates === undefined) return undefined;
  const { peerTlsRequireClientCert: requireClientCert, dnsName } = settings;
  return { ...certificates, requireClientCert, servername: dnsName?.slice(0, dnsName.lastIndexOf(':')) };
}

import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import { readCertificates, watchCertificates } from './certificates.js';
import type { Certificates } from './certificates.js';
import { createDnsDiscovery } from './discovery/dns.js';
import { createStaticDiscovery } from './discovery/static.js';
import { createApi } from './http/api.js';
import { createCounters } from './http/counters.js';
import { createDecisionHandlers } from './http/decisions.js';
import { createMetrics } from './http/metrics.js';
import { createPublicServer, DEFAULT_TIMEOUTS } from './http/server.js';
import { createGuard } from './guard.js';
import { listen } from './listen.js';
import { createAudit, createLog } from './log.js';
import { createMember, LEAVE_GRACE_MS } from './member.js';
import type { PeerTls } from './peer/tls.js';
import type { Settings } from './setting-table.js';
import { reachableAt } from './settings.js';
import { systemClock } from './system.js';
import { VERSION } from './version.js';

/**
 * How long a stopping node goes on answering, so that balancers see that it is not ready; and how long it may take in all.
 * With what `member.ts` allows after that, it ends within 8 s: Docker kills after 10.
 */
const DRAIN_NOTICE_MS = 500;
const DRAIN_GRACE_MS = LEAVE_GRACE_MS;

export interface RunningNode {
  /** Where the public API listens. */
  readonly port: number;
  readonly log: Logger;
  /** Stops as SIGTERM does: not ready, answer what is in flight, close. */
  stop(): Promise<void>;
}

/** Runs one node by its settings until `stop` is called. */
export async function startNode(settings: Settings): Promise<RunningNode> {
  let id = settings.advertise;
  const log = createLog(settings.logLevel, () => id);
  const audit = createAudit(settings.auditLog, log, () => id);
  const guard = createGuard(settings, { log, audit });
  const certificates = readCertificates(settings, 'tls');
  const member = await createMember({
    ...settings,
    listen: { host: settings.peerHost, port: settings.peerPort },
    advertise: (port) => (id ??= reachableAt(settings.peerHost, port)),
    discovery:
      settings.dnsName === undefined
        ? createStaticDiscovery(settings.peers)
        : createDnsDiscovery(settings.dnsName, { clock: systemClock, log }),
    secret: settings.peerSecret,
    tls: peerTls(settings, readCertificates(settings, 'peerTls')),
    log,
  });
  const { node } = member;
  const { limiter } = node;
  const counters = createCounters();
  let ready = false;
  const decisions = createDecisionHandlers(
    { limiter, access: guard.access, counters, elapsedMs: () => performance.now(), log },
    { deniedStatus: settings.deniedStatus },
  );
  const api = createApi(
    {
      cluster: node,
      decisions,
      access: guard.access,
      audit,
      counters,
      metrics: createMetrics({ counters, cluster: node, peers: member.peers }),
      isReady: () => ready,
      log,
    },
    { version: VERSION },
  );
  const publicServer = createPublicServer(
    { decisions, api, counters },
    DEFAULT_TIMEOUTS,
    publicTls(settings, certificates),
  );
  const port = await listen(publicServer.server, settings.port, settings.host);
  const stopWatching = [
    watchCertificates(settings, 'tls', { log, audit }, (next) => publicServer.useTls(publicTls(settings, next)!)),
    watchCertificates(settings, 'peerTls', { log, audit }, (next) => member.useTls(peerTls(settings, next)!)),
  ];
  ready = true;
  log.info({ host: settings.host, port }, 'tokenring ready');
  return {
    port,
    log,
    async stop() {
      ready = false;
      log.info('stopping');
      const drained = publicServer.drain(DRAIN_NOTICE_MS, DRAIN_GRACE_MS);
      await member.leave();
      await drained;
      await member.close();
      guard.close();
      for (const stop of stopWatching) stop();
      log.info('stopped');
    },
  };
}

function publicTls(settings: Settings, certificates: Certificates | undefined): TlsOptions | undefined {
  if (certificates === undefined) return undefined;
  const { tlsRequireClientCert: required } = settings;
  return { ...certificates, minVersion: 'TLSv1.2', requestCert: required, rejectUnauthorized: required };
}

/** Nodes behind one DNS name are reached by their addresses: their certificates bear the name. */
function peerTls(settings: Settings, certificates: Certificates | undefined): PeerTls | undefined {
  if (certificates === undefined) return undefined;
  const { peerTlsRequireClientCert: requireClientCert, dnsName } = settings;
  return { ...certificates, requireClientCert, servername: dnsName?.slice(0, dnsName.lastIndexOf(':')) };
}

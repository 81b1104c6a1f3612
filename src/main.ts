import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
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
  const member = await createMember({
    ...settings,
    listen: { host: settings.peerHost, port: settings.peerPort },
    advertise: (port) => (id ??= reachableAt(settings.peerHost, port)),
    discovery:
      settings.dnsName === undefined
        ? createStaticDiscovery(settings.peers)
        : createDnsDiscovery(settings.dnsName, { clock: systemClock, log }),
    secret: settings.peerSecret,
    tls: peerTls(settings),
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
  const publicServer = createPublicServer({ decisions, api, counters }, DEFAULT_TIMEOUTS, publicTls(settings));
  const port = await listen(publicServer.server, settings.port, settings.host);
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
      log.info('stopped');
    },
  };
}

function publicTls({ tlsCert, tlsKey, tlsCa, tlsRequireClientCert }: Settings): TlsOptions | undefined {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  const asked = { requestCert: tlsRequireClientCert, rejectUnauthorized: tlsRequireClientCert };
  return { cert: tlsCert, key: tlsKey, ca: tlsCa, minVersion: 'TLSv1.2', ...asked };
}

/** Nodes behind one DNS name are reached by their addresses: their certificates bear the name. */
function peerTls(settings: Settings): PeerTls | undefined {
  const { peerTlsCert, peerTlsKey, peerTlsCa, peerTlsRequireClientCert, dnsName } = settings;
  if (peerTlsCert === undefined || peerTlsKey === undefined) return undefined;
  const servername = dnsName?.slice(0, dnsName.lastIndexOf(':'));
  return { cert: peerTlsCert, key: peerTlsKey, ca: peerTlsCa, requireClientCert: peerTlsRequireClientCert, servername };
}

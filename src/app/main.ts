import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import type { ProcessReport } from '../protocol/messages.js';
import { peerTls, publicTls, readCertificates, watchCertificates } from './certificates.js';
import { discoveryOf, registryOf } from './discovery-from-settings.js';
import type { GroupLink } from './group/link.js';
import type { Stats } from './group/protocol.js';
import { AuditTrail, type Audit } from '../server/edge/audit.js';
import { NodeEvents } from '../server/http/api/node-events.js';
import { TokenAccess } from './token-access.js';
import { listen, sharingOf } from '../lib/listen.js';
import { AuditLog, ProgramLog } from './log.js';
import { createMember, LEAVE_GRACE_MS, type Member } from './member.js';
import {
  availableMemoryMb,
  heapLimitMb,
  memoryBounds,
  nodeMemoryMb,
  type MemoryBounds,
} from './settings/memory-budget.js';
import { PublicApi } from './public-api.js';
import type { NodeStage } from '../server/edge/server-context.js';
import { openEach, WorkerPort, type Ports } from './public-ports.js';
import { openPolicySource, type PolicySource } from './policy-source.js';
import type { Settings } from './settings/setting-table.js';
import { publicUrlOf, reachableAt } from './settings/settings.js';
import { openTracing, type Tracing } from './tracing.js';

/**
 * A stopping node answers `/readyz` with 503 for `DRAIN_NOTICE_MS` before it closes its port, so that balancers notice.
 * It closes after `DRAIN_GRACE_MS` at the latest. With the delays of `member.ts` it ends within 8 s; Docker kills after
 * 10 s.
 */
const DRAIN_NOTICE_MS = 500;
const DRAIN_GRACE_MS = LEAVE_GRACE_MS;

/** The default policy file, and the setting that means no file. */
const POLICIES = 'config/policies.json';
/** File that keeps the policies for a restart. It is not in config/, which people edit. */
const POLICIES_STATE = '.tokenring/policies.state';
const NONE = 'none';

export interface RunningNode extends Ports {
  readonly log: Logger;
  /** The metrics of this process. */
  readonly stats: () => Promise<Stats>;
  /** Stops as SIGTERM does: reports not ready, answers requests in flight, and closes. */
  stop(): Promise<void>;
}

/**
 * Runs one node until `stop` is called. Resolves when the node has joined the ring and answers.
 * @param group the link to the other workers, when this node is one of several behind one public port
 * @throws SettingsError, StoreError, or an error of the operating system when the node cannot start
 */
export async function startNode(settings: Settings, group?: GroupLink): Promise<RunningNode> {
  let id = settings.advertise;
  const lines = new ProgramLog(settings, () => id);
  const changes = new AuditLog(settings.auditLog, lines, () => id);
  const { log } = lines;
  const auditTrail = new AuditTrail(changes.audit, Date.now);
  const audit: Audit = (change) => auditTrail.audit(change);
  const events = new NodeEvents(Date.now);
  const tokenAccess = new TokenAccess(settings, log, audit);
  const certificates = readCertificates(settings, 'tls');
  const memoryMb = nodeMemoryMb(settings.memoryMb || availableMemoryMb(), settings.workers);
  const bounds = memoryBounds(memoryMb, heapLimitMb());
  log.info({ memoryMb, heapMb: Math.floor(heapLimitMb()), ...bounds }, 'bounds on memory');
  const source = await openPolicies(settings, { log, audit, maxBytes: bounds.state.maxPolicyBytes });
  const own = group && (await WorkerPort.open(settings));
  const tracing = await openTracing({ self: () => id ?? '', clientIds: settings.traceClientIds });
  const reports: { ofProcess?: () => ProcessReport } = {};
  const member = await openMember(settings, {
    log,
    source,
    bounds,
    group,
    own,
    tracing,
    named: (self) => (id = self),
    processReport: () => reports.ofProcess?.(),
    events,
  });
  member.node.activePolicies.onChange(({ version }) => events.note('info', `policies changed: version ${version}`));
  let stage: NodeStage = 'joining';
  const publicApi = new PublicApi(settings, {
    member,
    policyWriter: source.connect(member.node),
    access: tokenAccess.access,
    auditTrail,
    events,
    log,
    lost: { logLines: () => lines.droppedLines, auditLines: () => changes.divertedLines },
    bounds,
    tls: publicTls(settings, certificates),
    group,
    stage: () => stage,
    memoryMb,
  });
  const { servers } = publicApi;
  reports.ofProcess = () => publicApi.report();
  own?.passTo(servers.http);
  const allServers = Object.values(servers).filter((server) => server !== undefined);
  const sharing = group === undefined ? 'exclusive' : sharingOf(process.versions.node, process.platform);
  const { host } = settings;
  const listenHere = (): Promise<Ports> =>
    openEach(settings, async (protocol, at) => {
      if (sharing !== 'by-supervisor') return listen(servers[protocol]!.server, { host, ...at, sharing });
      servers[protocol]!.attachListener(group!.connections(protocol));
      return at.port;
    });
  const ports = await start(member, async () => {
    // A taken port must stop the node before other members depend on it. A worker listens only after it has joined: on
    // the shared port it would take connections from workers that can answer. Its supervisor has already checked the
    // port.
    const early = group === undefined ? await listenHere() : undefined;
    await member.join();
    await source.begin();
    return early ?? (await listenHere());
  });
  const stopWatching = [
    watchCertificates(settings, 'tls', { log, audit }, (next) => {
      for (const server of allServers) server.useTls(publicTls(settings, next)!);
    }),
    watchCertificates(settings, 'peerTls', { log, audit }, (next) => member.useTls(peerTls(settings, next)!)),
  ];
  stage = 'ready';
  publicApi.stageChanged();
  if (group === undefined) log.info({ host, ...ports }, 'tokenring ready');
  else {
    log.info({ host, ...ports, sharing, pid: process.pid }, 'worker ready');
    group.isUp();
  }
  return {
    ...ports,
    log,
    stats: () => publicApi.stats(),
    async stop() {
      stage = 'stopping';
      publicApi.stageChanged();
      source.close();
      log.info('stopping');
      const drained = Promise.all(allServers.map((server) => server.drain(DRAIN_NOTICE_MS, DRAIN_GRACE_MS)));
      await member.leave(group?.groupLeave());
      await drained;
      // Another worker may need this one to decide until all workers have drained.
      await group?.drained();
      await member.close();
      tokenAccess.close();
      for (const stop of stopWatching) stop();
      await source.saved();
      log.info('stopped');
    },
  };
}

function openPolicies(
  settings: Settings,
  deps: { log: Logger; audit: Audit; maxBytes: number },
): Promise<PolicySource> {
  const path = settings.policies ?? (existsSync(POLICIES) ? POLICIES : NONE);
  const defaultState = path === POLICIES ? POLICIES_STATE : `${path}.state`;
  const statePath = settings.policiesState ?? (path === NONE ? NONE : defaultState);
  const named = (one: string): string | undefined => (one === NONE ? undefined : one);
  return openPolicySource('TOKENRING_POLICIES', named(path), named(statePath), deps);
}

/** The node is not in the ring yet. */
async function openMember(
  settings: Settings,
  parts: {
    readonly log: Logger;
    readonly source: PolicySource;
    readonly bounds: MemoryBounds;
    readonly group: GroupLink | undefined;
    /** The port of this worker alone. */
    readonly own: WorkerPort | undefined;
    readonly tracing: Tracing | undefined;
    /** Called with the id of this node, once its peer port is known. */
    readonly named: (id: string) => void;
    readonly processReport: () => ProcessReport | undefined;
    readonly events: Pick<NodeEvents, 'watching'>;
  },
): Promise<Member> {
  const { log, source, bounds, group, own, tracing, named, processReport, events } = parts;
  const discovery = discoveryOf(settings, log);
  return createMember({
    ...settings,
    stateBounds: bounds.state,
    policies: source.state,
    listen: { host: settings.peerHost, port: settings.peerPort, setting: 'TOKENRING_PEER_PORT' },
    advertise(port) {
      const id = settings.advertise ?? reachableAt(settings.peerHost, port);
      named(id);
      group?.listens(id, { peerPort: port, workerPort: own?.port ?? 'none' });
      return id;
    },
    sockets: group,
    url: (self) => publicUrlOf({ ...settings, port: own?.port ?? settings.port }, self),
    discovery: group?.withSiblings(discovery) ?? discovery,
    registry: registryOf(settings),
    memberTtlMs: settings.etcdLeaseMs,
    bootstrapMs: settings.discovery === 'dns' || settings.peers.length > 0 ? settings.bootstrapMs : 0,
    secret: settings.peerSecret,
    cluster: settings.cluster,
    tls: peerTls(settings, readCertificates(settings, 'peerTls')),
    log: events.watching(log),
    processReport,
    tracing,
  });
}

/**
 * Runs the steps of a start. If one fails, this node leaves before the error is reported, so that no node waits for it.
 */
async function start<T>(member: Member, steps: () => Promise<T>): Promise<T> {
  try {
    return await steps();
  } catch (error) {
    await member.leave();
    await member.close();
    throw error;
  }
}

import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import type { ProcessReport } from '../protocol/messages.js';
import type { PolicyWriter } from '../node/policies/policy-writer.js';
import type { GroupLink } from './group/link.js';
import type { Stats } from './group/protocol.js';
import type { Access } from '../server/edge/access/access.js';
import { Api } from '../server/http/api/api.js';
import type { AuditTrail, Actor } from '../server/edge/access/audit.js';
import type { NodeEvents } from '../server/http/api/node-events.js';
import { createBodyReader } from '../server/http/body.js';
import { ClientCalls } from '../server/edge/client-calls.js';
import { Counters } from '../server/edge/counters.js';
import { DecisionEndpoints } from '../server/http/decisions/handlers.js';
import { createRateLimitServer } from '../server/grpc/rate-limit-server.js';
import { createMetrics } from '../server/http/metrics/metrics.js';
import { Connections, DEFAULT_BOUNDS } from '../server/edge/connections.js';
import type { ProtocolServer } from '../server/edge/protocol-server.js';
import { ServerContext } from '../server/edge/server-context.js';
import { createPublicServer, DEFAULT_TIMEOUTS } from '../server/http/server.js';
import { Sites } from '../server/http/sites.js';
import { OnceJoined } from '../server/http/once-joined.js';
import { Health } from '../server/http/health.js';
import { TokenringError } from '../lib/error.js';
import type { Member } from './member.js';
import { createRespServer } from '../server/resp/server.js';
import type { MemoryBounds } from './settings/memory-budget.js';
import type { Settings } from './settings/setting-table.js';
import { VERSION } from '../lib/version.js';

interface PublicApiDeps {
  readonly member: Pick<Member, 'node' | 'checks' | 'peers'>;
  readonly policyWriter: PolicyWriter<Actor>;
  readonly access: Access;
  readonly auditTrail: AuditTrail;
  readonly events: NodeEvents;
  readonly log: Logger;
  /** Lines that standard output and the audit log's file did not take. */
  readonly lost: { logLines(): number; auditLines(): number };
  readonly bounds: Pick<
    MemoryBounds,
    'state' | 'maxArrivingBytes' | 'maxOtherArrivingBytes' | 'maxWaitingBytes' | 'maxUnreadBytes' | 'maxConnections'
  >;
  readonly tls: TlsOptions | undefined;
  /** The other workers behind the same port, if there are any. Their metrics and their state count too. */
  readonly group: Pick<GroupLink, 'metrics' | 'isWhole'> | undefined;
  /**
   * `joining` until the node has joined the ring and its policies are in force; `stopping` from the signal to stop on.
   */
  readonly stage: () => 'joining' | 'ready' | 'stopping';
  /** The memory that this node plans with. */
  readonly memoryMb: number;
}

interface PublicApi {
  /** The HTTP API, and Envoy's rate limit service and the Redis protocol if the settings ask for them. */
  readonly servers: {
    readonly http: ProtocolServer;
    readonly grpc: ProtocolServer | undefined;
    readonly resp: ProtocolServer | undefined;
  };
  /** Tells those that watch the health of the node. Called after each change of `stage`. */
  readonly stageChanged: () => void;
  /** The metrics of this process. */
  readonly stats: () => Promise<Stats>;
  readonly report: () => ProcessReport;
}

/** Creates the public servers of a node, with their handlers and metrics. They do not listen yet. */
export function createPublicApi(settings: Settings, deps: PublicApiDeps): PublicApi {
  const { access, auditTrail, events, log, group, stage, policyWriter } = deps;
  const { node, checks, peers } = deps.member;
  const { activePolicies } = node;
  const counters = new Counters();
  const hasJoined = (): boolean => stage() !== 'joining';
  const joined = new OnceJoined(counters, hasJoined);
  const context = new ServerContext({
    limiter: checks,
    policies: activePolicies,
    access,
    counters,
    elapsedMs: () => performance.now(),
    log,
    maxInFlight: settings.maxInFlight,
    maxArrivingBytes: deps.bounds.maxArrivingBytes,
    maxWaitingBytes: deps.bounds.maxWaitingBytes,
  });
  const connections = new Connections(
    {
      ...DEFAULT_BOUNDS,
      maxUnreadBytes: deps.bounds.maxUnreadBytes,
      max: Math.min(settings.maxConnections, deps.bounds.maxConnections),
      maxPerAddress: settings.maxConnectionsPerAddress || Infinity,
    },
    counters,
  );
  const { turns } = context;
  const health = new Health(counters, () => {
    // A stopping node still decides, so that balancers have time to notice. Later it forwards.
    if (stage() === 'stopping') return new TokenringError('draining');
    // The node joins again after a freeze, or has lost its lease. It answers by asking others.
    if (stage() === 'joining' || node.membership.self().state !== 'active')
      return new TokenringError('unavailable', { detail: node.waitingFor() ?? 'this node is not in the ring' });
    if (group?.isWhole() === false)
      return new TokenringError('unavailable', { detail: 'not all workers are in the ring' });
    return undefined;
  });
  const decisions = joined.decisions(new DecisionEndpoints(context, settings.deniedStatus));
  const metrics = createMetrics({
    counters,
    cluster: node,
    peers,
    lost: deps.lost,
    settings: { memoryMb: deps.memoryMb, suspectAfterMs: settings.suspectAfterMs },
  });
  const calls = new ClientCalls(node);
  const api = new Api({
    cluster: node,
    calls,
    activePolicies,
    policyWriter,
    decisions,
    access,
    readBody: createBodyReader(deps.bounds.maxOtherArrivingBytes),
    auditTrail,
    events,
    counters,
    metrics: group === undefined ? metrics : { contentType: metrics.contentType, metrics: () => group.metrics() },
    health,
    turns,
    isStopping: () => stage() === 'stopping',
    log,
    version: VERSION,
    maxInFlight: settings.maxInFlight,
    maxPolicyBytes: deps.bounds.state.maxPolicyBytes,
  });
  const http = createPublicServer(
    { decisions, api: joined.api(api.answer), health, turns, counters, sites: new Sites(settings) },
    DEFAULT_TIMEOUTS,
    deps.tls,
    connections,
  );
  const grpc =
    settings.grpcPort === undefined
      ? undefined
      : createRateLimitServer({ context, connections, settler: node.settler, stage }, deps.bounds, deps.tls);
  const resp =
    settings.respPort === undefined
      ? undefined
      : createRespServer({ context, connections, calls, hasJoined, version: VERSION }, deps.tls);
  return {
    servers: { http, grpc: grpc?.server, resp },
    stageChanged: () => grpc?.stageChanged(),
    stats: () => metrics.getMetricsAsJSON(),
    report: () => processReport(counters, deps.memoryMb),
  };
}

function processReport(counters: Counters, memoryMb: number): ProcessReport {
  const { allowed, denied, durations, problems } = counters;
  const counts = Object.values(durations).map((of) => of.counts);
  return {
    allowed,
    denied,
    durations: counts[0]!.map((_, i) => counts.reduce((sum, of) => sum + of[i]!, 0)),
    problems: [...problems.values()].reduce((sum, count) => sum + count, 0),
    busyMs: performance.eventLoopUtilization().active,
    uptimeMs: performance.now(),
    memoryBytes: process.memoryUsage.rss(),
    memoryBudgetBytes: memoryMb * 2 ** 20,
  };
}

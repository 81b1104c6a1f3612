import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import type { ProcessReport } from '../protocol/messages.js';
import type { PolicyWriter } from '../node/policies/policy-writer.js';
import type { GroupLink } from './group/link.js';
import type { Stats } from './group/protocol.js';
import type { Access } from '../server/edge/access.js';
import { Api } from '../server/http/api/api.js';
import type { AuditTrail, Actor } from '../server/edge/audit.js';
import type { NodeEvents } from '../server/http/api/node-events.js';
import { BodyReader } from '../server/http/body.js';
import { ClientCalls } from '../server/edge/client-calls.js';
import { Counters } from '../server/edge/counters.js';
import { DecisionEndpoints } from '../server/http/decisions/handlers.js';
import { GrpcServer } from '../server/grpc/server.js';
import { NodeMetrics } from '../server/http/metrics.js';
import { Connections, DEFAULT_BOUNDS } from '../server/edge/connections.js';
import { ServerContext, type NodeStage } from '../server/edge/server-context.js';
import { HttpServer } from '../server/http/server.js';
import { HostGuard } from '../server/http/host-guard.js';
import { Health } from '../server/http/health.js';
import { TokenringError } from '../lib/error.js';
import type { Member } from './member.js';
import { RespServer } from '../server/resp/server.js';
import type { MemoryBounds } from './settings/memory-budget.js';
import type { Settings } from './settings/setting-table.js';
import { VERSION } from '../lib/version.js';

interface PublicApiParts {
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
  readonly stage: () => NodeStage;
  /** The memory that this node plans with. */
  readonly memoryMb: number;
}

/** The public servers of a node, with their handlers and metrics. They do not listen yet. */
export class PublicApi {
  /** The HTTP API, and Envoy's rate limit service and the Redis protocol if the settings ask for them. */
  readonly servers: {
    readonly http: HttpServer;
    readonly grpc: GrpcServer | undefined;
    readonly resp: RespServer | undefined;
  };
  private readonly counters = new Counters();
  private readonly metrics: NodeMetrics;

  constructor(
    settings: Settings,
    private readonly parts: PublicApiParts,
  ) {
    const { access, auditTrail, events, log, group, stage, policyWriter, bounds, tls } = parts;
    const { node, checks, peers } = parts.member;
    const { counters } = this;
    const { activePolicies } = node;
    const context = new ServerContext({
      limiter: checks,
      policies: activePolicies,
      access,
      counters,
      stage,
      elapsedMs: () => performance.now(),
      log,
      maxInFlight: settings.maxInFlight,
      maxArrivingBytes: bounds.maxArrivingBytes,
      maxWaitingBytes: bounds.maxWaitingBytes,
    });
    const connections = new Connections(
      {
        ...DEFAULT_BOUNDS,
        maxUnreadBytes: bounds.maxUnreadBytes,
        max: Math.min(settings.maxConnections, bounds.maxConnections),
        maxPerAddress: settings.maxConnectionsPerAddress || Infinity,
      },
      counters,
    );
    const { settler } = node;
    const health = new Health(counters, () => this.unready());
    const decisions = new DecisionEndpoints(context, settings.deniedStatus);
    const metrics = new NodeMetrics({
      counters,
      cluster: node,
      peers,
      lost: parts.lost,
      settings: { memoryMb: parts.memoryMb, suspectAfterMs: settings.suspectAfterMs },
    });
    this.metrics = metrics;
    const calls = new ClientCalls(node);
    const api = new Api({
      context,
      cluster: node,
      calls,
      activePolicies,
      policyWriter,
      decisions,
      bodies: new BodyReader(bounds.maxOtherArrivingBytes),
      auditTrail,
      events,
      metrics: group === undefined ? metrics : { contentType: metrics.contentType, metrics: () => group.metrics() },
      health,
      version: VERSION,
      maxInFlight: settings.maxInFlight,
      maxPolicyBytes: bounds.state.maxPolicyBytes,
    });
    const { grpcPort, respPort } = settings;
    // The memory of a node is planned for so many requests that have not arrived in full.
    const maxArriving = bounds.maxConnections;
    this.servers = {
      http: new HttpServer({
        context,
        connections,
        decisions,
        api: api.answer,
        health,
        hosts: new HostGuard(settings),
        tls,
      }),
      grpc: grpcPort === undefined ? undefined : new GrpcServer({ context, connections, settler, maxArriving, tls }),
      resp: respPort === undefined ? undefined : new RespServer({ context, connections, calls, version: VERSION, tls }),
    };
  }

  /** Tells those that watch the health of the node. Called after each change of the stage. */
  stageChanged(): void {
    this.servers.grpc?.stageChanged();
  }

  /** The metrics of this process. */
  stats(): Promise<Stats> {
    return this.metrics.getMetricsAsJSON();
  }

  /** The counters of this process, for other members. */
  report(): ProcessReport {
    const { allowed, denied, durations, problems } = this.counters;
    const counts = Object.values(durations).map((of) => of.counts);
    return {
      allowed,
      denied,
      durations: counts[0]!.map((_, i) => counts.reduce((sum, of) => sum + of[i]!, 0)),
      problems: [...problems.values()].reduce((sum, count) => sum + count, 0),
      busyMs: performance.eventLoopUtilization().active,
      uptimeMs: performance.now(),
      memoryBytes: process.memoryUsage.rss(),
      memoryBudgetBytes: this.parts.memoryMb * 2 ** 20,
    };
  }

  private unready(): TokenringError | undefined {
    const { stage, group, member } = this.parts;
    // A stopping node still decides, so that balancers have time to notice. Later it forwards.
    if (stage() === 'stopping') return new TokenringError('draining');
    // The node joins again after a freeze, or has lost its lease. It answers by asking others.
    if (stage() === 'joining' || member.node.membership.self().state !== 'active')
      return new TokenringError('unavailable', { detail: member.node.waitingFor() ?? 'this node is not in the ring' });
    if (group?.isWhole() === false)
      return new TokenringError('unavailable', { detail: 'not all workers are in the ring' });
    return undefined;
  }
}

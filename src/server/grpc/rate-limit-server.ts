import type { TlsOptions } from 'node:tls';
import type { Settler } from '../../node/decide/settler.js';
import type { TokenringError } from '../../lib/error.js';
import type { Connections } from '../edge/connections.js';
import { notJoined, type ServerContext } from '../edge/server-context.js';
import type { ProtocolServer } from '../edge/protocol-server.js';
import { AllOrNothing } from './all-or-nothing.js';
import { Health } from './health-service.js';
import { createMethods, SERVICES } from './methods.js';
import { RateLimitService } from './rate-limit-service.js';
import { createGrpcServer, type GrpcTimeouts } from './server.js';

export interface RateLimitServer {
  readonly server: ProtocolServer;
  /** Tells those that watch the health of the node. Call this after each change of `stage`. */
  stageChanged(): void;
}

/** Wires Envoy's rate limit service and the health service to the limiter of the node. It does not listen yet. */
export function createRateLimitServer(
  {
    context,
    connections,
    settler,
    stage,
  }: {
    readonly context: ServerContext;
    readonly connections: Connections;
    readonly settler: Pick<Settler, 'settle'>;
    readonly stage: () => 'joining' | 'ready' | 'stopping';
  },
  { maxConnections, timeouts }: { readonly maxConnections: number; readonly timeouts?: GrpcTimeouts },
  tls: TlsOptions | undefined,
): RateLimitServer {
  const health = new Health(SERVICES, () => stage() === 'ready');
  const service = new RateLimitService(context, new AllOrNothing(context.limiter, settler));
  const methods = createMethods(service, health);
  const refusal = (): TokenringError | undefined => (stage() === 'joining' ? notJoined() : undefined);
  // The memory of a node is planned for so many requests that have not arrived in full.
  const bounds = { maxArriving: maxConnections, ...(timeouts && { timeouts }) };
  const server = createGrpcServer({ context, connections, methods, refusal }, bounds, tls);
  return { server, stageChanged: () => health.changed() };
}

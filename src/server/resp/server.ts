import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { WriterPool } from '../edge/answer-buffers.js';
import type { ClientCalls } from '../edge/client-calls.js';
import type { Connection, Connections, OpenConnection } from '../edge/connections.js';
import { ProtocolServer, type ServerTimeouts } from '../edge/protocol-server.js';
import type { ServerContext } from '../edge/server-context.js';
import { CommandReader } from './command-reader.js';
import { Commands } from './commands.js';
import { RespConnection, type RespShared } from './connection.js';
import { DecisionWriter } from './decision-writer.js';

/** Clients keep connections in pools and do not expect that they end. At the bound on connections, idle ones end earlier. */
const DEFAULT_TIMEOUTS: ServerTimeouts = { firstMs: 5_000, requestMs: 10_000, idleMs: 3_600_000 };
/** Time in ms for a client to close a connection that the node has ended. */
export const LINGER_MS = 1_000;
/** Silence in ms after which the system asks whether the other machine is still there. */
const KEEP_ALIVE_MS = 60_000;

/**
 * The server of the Redis protocol. After the notice of a drain, each connection ends behind the answer to the
 * last command that was received. A command that comes later is not decided.
 */
export class RespServer extends ProtocolServer {
  private readonly shared: RespShared;

  constructor(parts: {
    readonly context: ServerContext;
    readonly connections: Connections;
    readonly calls: ClientCalls;
    readonly version: string;
    readonly timeouts?: ServerTimeouts;
    readonly tls?: TlsOptions | undefined;
  }) {
    const { context, connections, timeouts: { firstMs, requestMs, idleMs } = DEFAULT_TIMEOUTS, tls } = parts;
    const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
    const server: Server =
      tls === undefined ? createServer(options) : createTlsServer({ ...options, handshakeTimeout: firstMs, ...tls });
    // A client that breaks off a handshake is no error of the node.
    server.on('tlsClientError', (_error, socket: Socket) => socket.destroy());
    super({
      protocol: 'resp',
      server,
      connections,
      longestMs: { silent: idleMs, idle: idleMs, arriving: requestMs, ended: LINGER_MS, busy: Infinity },
      nowMs: context.elapsedMs,
    });
    this.shared = {
      context,
      commands: new Commands(parts),
      reader: new CommandReader(context.policies),
      writer: new DecisionWriter(context.counters),
      pool: new WriterPool(),
      isDraining: false,
    };
  }

  protected override begin(stream: Socket, open: OpenConnection): Connection {
    return new RespConnection(this.shared, stream, open);
  }

  protected override draining(stage: 'notice' | 'end'): void {
    this.shared.isDraining = stage === 'end';
  }
}

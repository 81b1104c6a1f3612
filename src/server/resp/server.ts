import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { Connections } from '../edge/connections.js';
import type { ServerContext } from '../edge/server-context.js';
import { ProtocolServer } from '../edge/protocol-server.js';
import { createCommands, type CommandsDeps } from './commands.js';
import { createConnectionHandler } from './connection.js';

/** Longest times, in ms, that a connection may take or stay silent. */
interface RespTimeouts {
  /** Time for a TLS handshake. */
  readonly handshakeMs: number;
  /** Time for a command to arrive in full. */
  readonly commandMs: number;
  /**
   * Time between two commands. Clients keep connections in pools and do not expect that they end. At the bound on
   * connections, idle ones end earlier.
   */
  readonly idleMs: number;
  /** Time for a client to close a connection that the node has ended. */
  readonly lingerMs: number;
}

const DEFAULT_TIMEOUTS: RespTimeouts = { handshakeMs: 5_000, commandMs: 10_000, idleMs: 3_600_000, lingerMs: 1_000 };
/** Silence in ms after which the system asks whether the other machine is still there. */
const KEEP_ALIVE_MS = 60_000;

interface RespDeps extends CommandsDeps {
  readonly context: ServerContext;
  readonly connections: Connections;
}

/**
 * Creates the listener of the Redis protocol. After the notice of a drain, each connection ends behind the answer to the
 * last command that was received. A command that comes later is not decided.
 */
export function createRespServer(
  deps: RespDeps,
  tls?: TlsOptions,
  timeouts: RespTimeouts = DEFAULT_TIMEOUTS,
): ProtocolServer {
  const { context, hasJoined } = deps;
  const { handshakeMs, commandMs, idleMs, lingerMs } = timeouts;
  let isDraining = false;
  const commands = createCommands(deps);
  const handle = createConnectionHandler({ context, commands, hasJoined, isDraining: () => isDraining });
  const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
  const server: Server =
    tls === undefined ? createServer(options) : createTlsServer({ ...options, handshakeTimeout: handshakeMs, ...tls });
  // A client that breaks off a handshake is no error of the node.
  server.on('tlsClientError', (_error, socket: Socket) => socket.destroy());
  return new ProtocolServer(
    {
      protocol: 'resp',
      server,
      longestMs: { silent: idleMs, idle: idleMs, arriving: commandMs, ended: lingerMs, busy: Infinity },
      elapsedMs: context.elapsedMs,
      begin: handle,
      draining: (stage) => (isDraining = stage === 'end'),
    },
    deps.connections,
  );
}

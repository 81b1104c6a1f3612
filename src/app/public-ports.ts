import type { Protocol } from './group/protocol.js';
import { variable, type Settings } from './settings/setting-table.js';
import { createServer, type Server, type Socket } from 'node:net';
import { listen } from '../lib/listen.js';
import type { ProtocolServer } from '../server/edge/protocol-server.js';

/** The public ports: of the HTTP API, and of Envoy's rate limit service and the Redis protocol where they are on. */
export type Ports = Pick<Settings, 'port' | 'grpcPort' | 'respPort'>;

const SETTINGS_OF: Readonly<Record<Protocol, keyof Ports>> = { http: 'port', grpc: 'grpcPort', resp: 'respPort' };
const PROTOCOLS = Object.keys(SETTINGS_OF) as Protocol[];

/**
 * Opens the public ports that are on, one after the other.
 * @param open opens one port; `setting` names it in error messages. Resolves with its number, also for port 0.
 * @returns the same ports with their numbers
 */
export async function openEach(
  ports: Ports,
  open: (protocol: Protocol, at: { readonly port: number; readonly setting: string }) => Promise<number>,
): Promise<Ports> {
  const opened = { port: 0, grpcPort: undefined, respPort: undefined } as { -readonly [P in keyof Ports]: Ports[P] };
  for (const protocol of PROTOCOLS) {
    const name = SETTINGS_OF[protocol];
    const port = ports[name];
    if (port !== undefined) opened[name] = await open(protocol, { port, setting: variable(name) });
  }
  return opened;
}

/**
 * A port of the public API at which one worker alone answers, so that callers that know the owner of a client can ask
 * it. Connections wait until `passTo`.
 */
export class WorkerPort {
  private readonly waiting: Socket[] = [];
  private readonly hold = (socket: Socket): void => void this.waiting.push(socket);

  private constructor(
    private readonly listener: Server,
    /** The number of the port. */
    public port: number,
  ) {
    listener.on('connection', this.hold);
  }

  /** Listens on the worker's own port. @returns `undefined` if the settings name none */
  static async open(
    settings: Pick<Settings, 'host' | 'workerPort' | 'maxConnections'>,
  ): Promise<WorkerPort | undefined> {
    const { host, workerPort, maxConnections } = settings;
    if (typeof workerPort !== 'number') return undefined;
    // With these options, node:http creates its own listener.
    const listener = createServer({ allowHalfOpen: true, noDelay: true });
    listener.maxConnections = maxConnections;
    const opened = new WorkerPort(listener, workerPort);
    opened.port = await listen(listener, { host, port: workerPort, setting: 'TOKENRING_WORKER_PORT' });
    return opened;
  }

  /** Passes the listener to the server that answers, with the connections that wait. */
  passTo(server: Pick<ProtocolServer, 'attachListener'>): void {
    this.listener.off('connection', this.hold);
    // The server bounds them, and lets old ones give way to new ones.
    this.listener.maxConnections = Infinity;
    server.attachListener(this.listener);
    for (const socket of this.waiting) this.listener.emit('connection', socket);
  }
}

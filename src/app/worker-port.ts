import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { listen } from '../lib/listen.js';
import type { Settings } from './settings/setting-table.js';

/** A port of the public API at which one worker alone answers. */
export interface WorkerPort {
  readonly port: number;
  /** Passes the listener to the server that answers, with the connections that wait. */
  passTo(answerAlso: (listener: Server) => void): void;
}

/**
 * Listens on this worker's own port, so that callers that know the owner of a client can ask it. Connections wait until
 * `passTo`.
 */
export async function listenOnWorkerPort(
  settings: Pick<Settings, 'host' | 'workerPort' | 'maxConnections'>,
): Promise<WorkerPort | undefined> {
  const { host, workerPort, maxConnections } = settings;
  if (typeof workerPort !== 'number') return undefined;
  const waiting: Socket[] = [];
  const hold = (socket: Socket): void => void waiting.push(socket);
  // With these options, node:http creates its own listener.
  const listener = createServer({ allowHalfOpen: true, noDelay: true });
  listener.maxConnections = maxConnections;
  listener.on('connection', hold);
  const port = await listen(listener, { host, port: workerPort, setting: 'TOKENRING_WORKER_PORT' });
  return {
    port,
    passTo(answerAlso) {
      listener.off('connection', hold);
      answerAlso(listener);
      for (const socket of waiting) listener.emit('connection', socket);
    },
  };
}

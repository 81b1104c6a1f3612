import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { openSocketDirectory } from '../../group/socket-directory.js';
import type { SocketDirectory } from '../../group/socket-directory.js';
import { startGroup } from '../../group/supervisor.js';
import type { Door } from '../../group/protocol.js';
import { listen, sharingOf } from '../../listen.js';
import type { ListenAt } from '../../listen.js';
import { createLog } from '../../log/log.js';
import { availableMemoryMb, heapLimitMb, heapOptions, nodeMemoryMb } from '../../settings/memory-budget.js';
import type { Settings } from '../../settings/setting-table.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

/** Runs several nodes behind one public port until `stop` is called. Resolves when all are in the ring. */
export async function startWorkers(settings: Settings): Promise<{ readonly log: Logger; stop(): Promise<void> }> {
  const { host } = settings;
  const port = await freePort({ host, port: settings.port, setting: 'TOKENRING_PORT' });
  const grpcPort =
    settings.grpcPort === undefined
      ? undefined
      : await freePort({ host, port: settings.grpcPort, setting: 'TOKENRING_GRPC_PORT' });
  const respPort =
    settings.respPort === undefined
      ? undefined
      : await freePort({ host, port: settings.respPort, setting: 'TOKENRING_RESP_PORT' });
  const lines = createLog(settings, () => undefined);
  const { log } = lines;
  const sockets = await openSockets(log);
  // A worker cannot tell the memory of all from its own.
  const memoryMb = settings.memoryMb || availableMemoryMb();
  const workerPort = settings.workerPort ?? (settings.port === 0 ? 0 : port + 1);
  const group = startGroup({
    exec: WORKER,
    execArgv: heapOptions(nodeMemoryMb(memoryMb, settings.workers), heapLimitMb()),
    settings: { ...settings, port, grpcPort, respPort, workerPort, memoryMb },
    socketPathOf: (worker) => sockets?.pathOf(worker),
    openPorts:
      sharingOf(process.versions.node, process.platform) === 'by-kernel'
        ? undefined
        : openPorts({ host, port, grpcPort, respPort }),
    log,
    droppedLogLines: () => lines.droppedLines,
  });
  process.on('exit', () => {
    group.kill();
    sockets?.remove();
  });
  const node = await group.started;
  log.info({ node, host, port, grpcPort, respPort, workers: settings.workers }, 'tokenring ready');
  return {
    log,
    async stop() {
      log.info('stopping workers');
      await group.stop();
      log.info('stopped workers');
    },
  };
}

/** Opens the public ports for all workers. */
function openPorts({
  host,
  port,
  grpcPort,
  respPort,
}: Pick<Settings, 'host' | 'port' | 'grpcPort' | 'respPort'>): (
  take: (socket: Socket, door: Door) => void,
) => Promise<{ close(): void }> {
  const open = async (at: ListenAt, take: (socket: Socket) => void): Promise<Server> => {
    const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, take);
    await listen(server, at);
    return server;
  };
  return async (take) => {
    const opened = [await open({ host, port, setting: 'TOKENRING_PORT' }, (socket) => take(socket, 'http'))];
    if (grpcPort !== undefined) {
      opened.push(
        await open({ host, port: grpcPort, setting: 'TOKENRING_GRPC_PORT' }, (socket) => take(socket, 'grpc')),
      );
    }
    if (respPort !== undefined) {
      opened.push(
        await open({ host, port: respPort, setting: 'TOKENRING_RESP_PORT' }, (socket) => take(socket, 'resp')),
      );
    }
    return {
      close() {
        for (const server of opened) server.close();
      },
    };
  };
}

/**
 * Checks that no program listens on the port. For 0, it finds a free port. The workers then share the port, which the
 * kernel may allow even beside another program.
 * @throws Error of the operating system
 */
async function freePort(at: ListenAt): Promise<number> {
  const probe = createServer();
  const free = await listen(probe, at);
  await new Promise((resolve) => probe.close(resolve));
  return free;
}

/** Without Unix sockets, workers talk over TCP. That costs more, but works. */
async function openSockets(log: Logger): Promise<SocketDirectory | undefined> {
  if (process.platform === 'win32') return undefined;
  try {
    return await openSocketDirectory(tmpdir());
  } catch (error) {
    log.warn({ reason: (error as Error).message }, 'no Unix sockets between workers; they talk over TCP');
    return undefined;
  }
}

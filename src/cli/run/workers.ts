import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { openSocketDirectory, type SocketDirectory } from '../../app/group/socket-directory.js';
import { WorkerGroup } from '../../app/group/supervisor.js';
import type { Protocol } from '../../app/group/protocol.js';
import { listen, sharingOf, type ListenAt } from '../../lib/listen.js';
import { ProgramLog } from '../../app/log.js';
import { openEach, type Ports } from '../../app/public-ports.js';
import { availableMemoryMb, heapLimitMb, heapOptions, nodeMemoryMb } from '../../app/settings/memory-budget.js';
import type { Settings } from '../../app/settings/setting-table.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

/** Runs several nodes behind one public port until `stop` is called. Resolves when all are in the ring. */
export async function startWorkers(settings: Settings): Promise<{ readonly log: Logger; stop(): Promise<void> }> {
  const { host } = settings;
  const ports = await openEach(settings, (_protocol, at) => freePort({ host, ...at }));
  const lines = new ProgramLog(settings, () => undefined);
  const { log } = lines;
  const sockets = await openSockets(log);
  // A worker cannot tell the memory of all from its own.
  const memoryMb = settings.memoryMb || availableMemoryMb();
  const workerPort = settings.workerPort ?? (settings.port === 0 ? 0 : ports.port + 1);
  const group = new WorkerGroup({
    exec: WORKER,
    execArgv: heapOptions(nodeMemoryMb(memoryMb, settings.workers), heapLimitMb()),
    settings: { ...settings, ...ports, workerPort, memoryMb },
    socketPathOf: (worker) => sockets?.pathOf(worker),
    openPorts: sharingOf(process.versions.node, process.platform) === 'by-kernel' ? undefined : openPorts(host, ports),
    log,
    droppedLogLines: () => lines.droppedLines,
  });
  process.on('exit', () => {
    group.kill();
    sockets?.remove();
  });
  const node = await group.started;
  log.info({ node, host, ...ports, workers: settings.workers }, 'tokenring ready');
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
function openPorts(
  host: string,
  ports: Ports,
): (take: (socket: Socket, protocol: Protocol) => void) => Promise<{ close(): void }> {
  return async (take) => {
    const opened: Server[] = [];
    await openEach(ports, (protocol, at) => {
      const options = { allowHalfOpen: true, noDelay: true, pauseOnConnect: true };
      const server = createServer(options, (socket) => take(socket, protocol));
      opened.push(server);
      return listen(server, { host, ...at });
    });
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

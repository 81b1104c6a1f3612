import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { startGroup } from '../group/supervisor.js';
import { listen } from '../listen.js';
import { createLog } from '../log.js';
import type { Settings } from '../setting-table.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

/** Runs several nodes behind one public port until `stop` is called. Resolves when all are in the ring. */
export async function startWorkers(settings: Settings): Promise<{ readonly log: Logger; stop(): Promise<void> }> {
  const port = await freePort(settings.port, settings.host);
  const lines = createLog(settings, () => undefined);
  const { log } = lines;
  const group = startGroup({
    exec: WORKER,
    settings: { ...settings, port },
    log,
    droppedLogLines: () => lines.droppedLines,
  });
  process.on('exit', () => group.kill());
  const node = await group.started;
  log.info({ node, host: settings.host, port, workers: settings.workers }, 'tokenring ready');
  return {
    log,
    async stop() {
      log.info('stopping workers');
      await group.stop();
      log.info('stopped workers');
    },
  };
}

/**
 * Checks that no program listens on the port. For 0, it finds a free port. The workers then share the port, which the
 * kernel may allow even beside another program.
 * @throws Error of the operating system
 */
async function freePort(port: number, host: string): Promise<number> {
  const probe = createServer();
  const free = await listen(probe, { port, host, setting: 'TOKENRING_PORT' });
  await new Promise((resolve) => probe.close(resolve));
  return free;
}

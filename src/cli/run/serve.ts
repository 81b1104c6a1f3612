import { startNode } from '../../app/main.js';
import { readSettings, withoutServiceLinks } from '../../app/settings/settings.js';
import { startWorkers } from './workers.js';

/** Longest time from a signal to the end of a node that has not joined yet. Such a node holds no clients. */
const START_GRACE_MS = 1_000;

/** Runs `tokenring serve`: one node, or several workers, until SIGTERM or SIGINT. A second signal ends it at once. */
export async function serve(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { own, links } = withoutServiceLinks(env);
  const settings = readSettings(args, own);
  const starting = settings.workers === 1 ? startNode(settings) : startWorkers(settings);
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) process.exit(1);
    stopping = true;
    const given = setTimeout(() => process.exit(1), START_GRACE_MS);
    const node = await starting;
    clearTimeout(given);
    try {
      await node.stop();
      process.exit(0);
    } catch (error) {
      node.log.error({ err: error }, 'stop failed');
      process.exit(1);
    }
  };
  // Handlers are set before the node is ready, as a signal may come at any time.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop().catch(() => undefined));
  const node = await starting;
  if (links.length > 0)
    node.log.info({ names: links }, 'ignored variables that Kubernetes sets for a Service named tokenring');
}

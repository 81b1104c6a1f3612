import { startNode } from '../main.js';
import { readSettings } from '../settings.js';
import { withoutServiceLinks } from './service-links.js';
import { startWorkers } from './workers.js';

/** `tokenring serve`: one node, or several workers, until SIGTERM or SIGINT. A second signal does not wait. */
export async function serve(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { own, links } = withoutServiceLinks(env);
  const settings = readSettings(args, own);
  const node = await (settings.workers === 1 ? startNode(settings) : startWorkers(settings));
  if (links.length > 0) node.log.info({ names: links }, 'ignored what Kubernetes says of a Service named tokenring');
  let stopping = false;
  const stop = (): void => {
    if (stopping) process.exit(1);
    stopping = true;
    node.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        node.log.error({ err: error }, 'the stop failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

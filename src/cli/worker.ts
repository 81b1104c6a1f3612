import { createGroupLink } from '../group/link.js';
import type { FromWorker, ToWorker } from '../group/protocol.js';
import { startNode } from '../main.js';
import type { RunningNode } from '../main.js';
import type { Settings } from '../setting-table.js';
import { SettingsError } from '../settings.js';

// One worker of a group, a process of its own, which `workers.ts` starts. It does what its supervisor says: a signal to all
// processes of the group, as Ctrl-C or a service manager sends it, is for the supervisor alone.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

let node: RunningNode | undefined;
const handlers: ((message: ToWorker) => void)[] = [];
const send = (message: FromWorker): void => void process.send?.(message);

const link = createGroupLink(
  { send, onMessage: (handle) => void handlers.push(handle) },
  {
    figures: async () => (await node?.figures()) ?? [],
    // One that is not in the ring yet holds nothing.
    onStop: () => (node === undefined ? process.exit(0) : void stop(node)),
  },
);
process.on('message', (message: ToWorker) => {
  if (message.kind === 'start') void start(message.settings);
  for (const handle of handlers) handle(message);
});
send({ kind: 'hears' });

async function start(settings: Settings): Promise<void> {
  setInterval(() => send({ kind: 'alive' }), settings.suspectAfterMs / 2);
  try {
    node = await startNode(settings, link);
  } catch (error) {
    const { syscall, message, stack } = error as NodeJS.ErrnoException;
    const known = error instanceof SettingsError || syscall === 'listen' || syscall === 'getaddrinfo';
    process.send?.(
      { kind: 'failed', message: known ? message : String(stack) } satisfies FromWorker,
      undefined,
      {},
      () => process.exit(2),
    );
  }
}

async function stop(stopping: RunningNode): Promise<void> {
  try {
    await stopping.stop();
    process.exit(0);
  } catch (error) {
    stopping.log.error({ err: error }, 'the stop failed');
    process.exit(1);
  }
}

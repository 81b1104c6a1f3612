import { Socket } from 'node:net';
import { GroupLink } from '../../app/group/link.js';
import type { FromWorker, ToWorker } from '../../app/group/protocol.js';
import { startNode, type RunningNode } from '../../app/main.js';
import type { Settings } from '../../app/settings/setting-table.js';
import { startFailure } from './start-failure.js';

// The program of one worker of a group. Ctrl-C and service managers send a signal to all processes of the group, so a
// worker ignores SIGINT and SIGTERM. Only its supervisor stops it.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

let node: RunningNode | undefined;
const send = (message: FromWorker): void => void process.send?.(message);

const link = new GroupLink(
  send,
  async () => (await node?.stats()) ?? [],
  // A worker that has not joined yet holds nothing.
  () => (node === undefined ? process.exit(0) : void stop(node)),
);
process.on('message', (message: ToWorker, handle: unknown) => {
  if (message.kind === 'start') void start(message.settings);
  link.receive(message, handle instanceof Socket ? handle : undefined);
});
send({ kind: 'connected' });

async function start(settings: Settings): Promise<void> {
  setInterval(() => send({ kind: 'alive' }), settings.suspectAfterMs / 2);
  try {
    node = await startNode(settings, link);
  } catch (error) {
    const failed: FromWorker = { kind: 'failed', message: startFailure(error) };
    process.send?.(failed, undefined, {}, () => process.exit(2));
  }
}

async function stop(stopping: RunningNode): Promise<void> {
  try {
    await stopping.stop();
    process.exit(0);
  } catch (error) {
    stopping.log.error({ err: error }, 'stop failed');
    process.exit(1);
  }
}

import { lstatSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';

/** The Unix sockets of the workers of one group. */
export interface SocketDirectory {
  /** Returns the path of a worker's socket. */
  pathOf(worker: number): string;
  /** Removes the directory and all sockets in it. */
  remove(): void;
}

const PREFIX = 'tokenring-workers-';
/** Name of the supervisor's socket, and the longest in the directory. Its answer shows that the directory is in use. */
const IN_USE = 'group';
/** `sun_path` has 108 bytes on Linux and 104 on macOS and the BSDs. The last one is a zero. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103;
const ANSWER_MS = 1_000;

/**
 * Creates a directory that only this user may enter (0700), and removes those that groups of this user left behind when
 * they were killed.
 * @param parent usually the directory for temporary files
 * @throws Error when the directory cannot be created, or when the path of a socket in it would be too long
 */
export async function openSocketDirectory(parent: string): Promise<SocketDirectory> {
  const longest = Buffer.byteLength(join(parent, `${PREFIX}XXXXXX`, IN_USE));
  if (longest > MAX_PATH_BYTES) {
    throw new Error(
      `the path of a socket in ${parent} has ${longest} bytes, expected at most ${MAX_PATH_BYTES}; set TMPDIR to a shorter path`,
    );
  }
  await removeAbandoned(parent);
  // Only a directory whose supervisor already answers gets the name by which others find it.
  const made = mkdtempSync(join(parent, `.${PREFIX}`));
  const path = join(parent, `${PREFIX}${made.slice(-6)}`);
  const supervisor = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    supervisor.once('error', reject).listen({ path: join(made, IN_USE), exclusive: true }, resolve);
  });
  supervisor.unref();
  renameSync(made, path);
  return {
    pathOf: (worker) => join(path, String(worker)),
    remove() {
      supervisor.close();
      rmSync(path, { recursive: true, force: true });
    },
  };
}

async function removeAbandoned(parent: string): Promise<void> {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(parent, name);
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats?.isDirectory() !== true || stats.uid !== process.getuid?.()) continue;
    // Without that socket it is something else, which only has such a name.
    if (lstatSync(join(path, IN_USE), { throwIfNoEntry: false })?.isSocket() !== true) continue;
    if (!(await answers(join(path, IN_USE)))) rmSync(path, { recursive: true, force: true });
  }
}

/** Tells whether a supervisor listens there. If that stays unknown, it does. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.setTimeout(ANSWER_MS);
    const settle = (isThere: boolean): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once('connect', () => settle(true)).once('timeout', () => settle(true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => settle(code !== 'ECONNREFUSED' && code !== 'ENOENT'));
  });
}

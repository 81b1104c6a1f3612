import { unwatchFile, watchFile, chmodSync, statSync } from 'node:fs';

/** Time between two checks of the files. */
const INTERVAL_MS = 500;
/** Time to wait for related changes, such as a key after its certificate. */
const TOGETHER_MS = 100;

/**
 * Calls `changed` after any of these files was written or replaced. A moved link to a file counts too, as Kubernetes
 * moves one for mounted files. The function polls, since notifications of file systems miss moved links. It does not
 * keep the process running.
 * @returns a function that ends the watch
 */
export function watchFiles(paths: readonly string[], changed: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const note = (): void => {
    clearTimeout(timer);
    timer = setTimeout(changed, TOGETHER_MS).unref();
  };
  for (const path of paths) watchFile(path, { interval: INTERVAL_MS, persistent: false }, note);
  return () => {
    clearTimeout(timer);
    for (const path of paths) unwatchFile(path, note);
  };
}

/**
 * Takes a file away from other users of this machine. It holds client ids, or limits that a writer could raise.
 * @returns why other users still have access; `undefined` if they have none, or there is no file
 */
export function makePrivate(path: string): string | undefined {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found !== undefined && (found.mode & 0o077) !== 0) chmodSync(path, 0o600);
    return undefined;
  } catch (error) {
    return `other users may have access to ${path}: ${(error as Error).message}`;
  }
}

import { unwatchFile, watchFile } from 'node:fs';

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

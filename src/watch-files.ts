import { unwatchFile, watchFile } from 'node:fs';

/** Time between two looks at the files. */
const INTERVAL_MS = 500;
/** Time for related changes to follow, such as a key after its certificate. */
const TOGETHER_MS = 100;

/**
 * Calls `changed` after any of these files was written or replaced, or a link to it moved, as Kubernetes does with
 * mounted files. Polls, since notifications of file systems miss moved links. Does not keep the process running.
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

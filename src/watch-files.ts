import { unwatchFile, watchFile } from 'node:fs';

/** How long a change may stay unnoticed, in ms; and what belongs to it, as a key to its certificate, may come after it. */
const INTERVAL_MS = 500;
const TOGETHER_MS = 100;

/**
 * Calls `changed` after any of these files was written, replaced or moved under, as Kubernetes does with what it mounts.
 * By looking, as the notices of file systems miss the last of these. Keeps no process alive.
 * @returns stops it
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

import { unwatchFile, watchFile } from 'node:fs';

/** How long a change may stay unnoticed, in ms. */
const INTERVAL_MS = 500;

/**
 * Calls `changed` after any of these files was written, replaced or moved under, as Kubernetes does with what it mounts.
 * By looking, as the notices of file systems miss the last of these. Keeps no process alive.
 * @returns stops it
 */
export function watchFiles(paths: readonly string[], changed: () => void, intervalMs = INTERVAL_MS): () => void {
  for (const path of paths) watchFile(path, { interval: intervalMs, persistent: false }, changed);
  return () => {
    for (const path of paths) unwatchFile(path, changed);
  };
}

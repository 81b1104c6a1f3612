import { chmodSync, statSync } from 'node:fs';

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

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** A file, or a folder and all that it holds. The folder itself counts: its time changes when a file is deleted. */
function filesOf(path) {
  if (!statSync(path).isDirectory()) return [path];
  return [path, ...readdirSync(path, { recursive: true, encoding: 'utf8' }).map((name) => join(path, name))];
}

/** @returns the latest change of these files and folders, in ms since 1970 */
export function newestMs(paths) {
  return Math.max(...paths.flatMap(filesOf).map((path) => statSync(path).mtimeMs));
}

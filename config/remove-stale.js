// Removes what earlier builds made of sources that are gone: the compiler leaves it, and a package would contain it.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const MADE = /^(.+?)\.(?:d\.)?([cm]?)[jt]s$/;

export function removeStale() {
  for (const folder of ['dist/esm', 'dist/cjs', 'dist/types']) {
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      const made = MADE.exec(path);
      if (made !== null && !existsSync(join('src', `${made[1]}.${made[2]}ts`))) rmSync(join(folder, path));
    }
  }
}

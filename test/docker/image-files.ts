import { cpSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

/** The instructions of the last stage of docker/Dockerfile, each on one line. */
function lastStage(): readonly string[] {
  const lines = readFileSync(join(ROOT, 'docker/Dockerfile'), 'utf8').split('\n');
  const text = lines.filter((line) => !line.startsWith('#')).join('\n');
  const from = text.lastIndexOf('\nFROM ');
  return text
    .slice(from + 1)
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '');
}

/**
 * Puts into `folder` what the last stage of docker/Dockerfile copies, from this checkout and its build. Dependencies are
 * linked.
 * @throws Error for a COPY of a form that this does not know
 */
export function assembleImage(folder: string): void {
  for (const line of lastStage().filter((one) => one.startsWith('COPY '))) {
    const [, from, to] = /^COPY (?:--from=\S+ )?(?:\/app\/)?([\w./-]+) ([\w./-]+)$/.exec(line) ?? [];
    if (from === undefined || to === undefined) throw new Error(`not understood: ${line}`);
    const source = join(ROOT, from);
    if (from === 'node_modules/') symlinkSync(source.slice(0, -1), join(folder, 'node_modules'));
    else cpSync(source, from.endsWith('/') ? join(folder, to) : join(folder, to, basename(from)), { recursive: true });
  }
}

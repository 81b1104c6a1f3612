import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import type { Audit } from './http/access/audit.js';
import { SettingsError } from './settings.js';

/**
 * What a terminal takes for a command, or what shows a line as another than it is: the control characters above ASCII, and those
 * that turn the direction of writing. In JSON they stand only in strings, where an escape means the same.
 */
const TREACHEROUS = /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

function harmless(line: string): string {
  return line.replace(TREACHEROUS, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function harmlessTo(stream: DestinationStream): DestinationStream {
  return { write: (line) => stream.write(harmless(line)) };
}

/** The program's log lines, on standard output. */
export function createLog(
  level: string,
  node: () => string | undefined,
  to = pino.destination(1) as DestinationStream,
): Logger {
  return pino({ level, base: null, mixin: () => ({ node: node() }) }, harmlessTo(to));
}

/**
 * The audit log: lines of their own, in a file that is only added to, or else among the log's, whatever its level.
 * A line that cannot be written is told in the log, and may be lost: the change stands.
 * @throws SettingsError when the file cannot be opened
 */
export function createAudit(
  path: string | undefined,
  log: Logger,
  node: () => string | undefined,
  to?: DestinationStream,
): Audit {
  const file = open(path);
  file.on('error', (error: Error) => log.error({ err: error }, 'the audit log cannot be written'));
  const lines = createLog('info', node, to ?? file);
  return (change) => lines.info({ audit: true, ...change }, 'changed');
}

function open(path: string | undefined): ReturnType<typeof pino.destination> {
  try {
    return pino.destination({ dest: path ?? 1, append: true, sync: true, mode: 0o600 });
  } catch (cause) {
    throw new SettingsError(`TOKENRING_AUDIT_LOG: ${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

import { constants, openSync } from 'node:fs';
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import { isatty } from 'node:tty';
import type { Audit } from '../../server/edge/access/audit.js';
import { createFileSink, createStdoutSink } from './line-sink.js';
import type { LineSink } from './line-sink.js';
import { prettyLine } from './pretty.js';
import type { Settings } from '../settings/setting-table.js';
import { SettingsError } from '../settings/settings.js';

/**
 * Characters with which a logged value could command a terminal or change how a line reads. They are the control
 * characters above ASCII and those that change the direction of writing. In JSON they occur only in strings, where an
 * escape means the same.
 */
const UNSAFE = /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

function escaped(line: string): string {
  return line.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function pinoTo(stream: DestinationStream, level: string, node: () => string | undefined): Logger {
  return pino({ level, base: null, mixin: () => ({ node: node() }) }, { write: (line) => stream.write(escaped(line)) });
}

interface ProgramLog {
  readonly log: Logger;
  /** The log's lines, for others that write lines of JSON. */
  readonly stream: DestinationStream;
  /** Number of lines lost so far, because the disk was full or the reader too slow. */
  droppedLines(): number;
}

/** Creates the program's log on standard output. A line that cannot be written is dropped and counted. */
export function createLog(
  { log: form, logLevel }: Pick<Settings, 'log' | 'logLevel'>,
  node: () => string | undefined,
): ProgramLog {
  const isPretty = form === 'pretty' || (form === 'auto' && isatty(1));
  let reported = 0;
  const lines: LineSink = createStdoutSink();
  const stream = {
    write(line: string): void {
      const before = lines.dropped();
      lines.write(isPretty ? prettyLine(line) : line);
      if (lines.dropped() > before || before === reported) return;
      const dropped = before - reported;
      reported = before;
      log.warn({ dropped }, 'log lines were dropped');
    },
  };
  const log = pinoTo(stream, logLevel, node);
  return {
    log,
    stream,
    droppedLines: () => lines.dropped(),
  };
}

interface AuditLog {
  readonly audit: Audit;
  /** Number of changes that went to the program's log because the audit log's file did not take them. */
  divertedLines(): number;
}

/**
 * Creates the audit log: an append-only file, or lines of the program's log at every level. If the file does not take
 * the line of a change, the line goes to the program's log and the change stays in force.
 * @throws SettingsError when the file cannot be opened
 */
export function createAudit(
  path: string | undefined,
  { log, stream }: ProgramLog,
  node: () => string | undefined,
): AuditLog {
  let divertedLines = 0;
  const onDrop = (line: string, code: string): void => {
    divertedLines += 1;
    log.fatal(
      { auditLog: path, code, change: JSON.parse(line) as unknown },
      'audit log not written; change logged here',
    );
  };
  const lines = path === undefined ? stream : createFileSink(open(path), { onDrop });
  const audit = pinoTo(lines, 'info', node);
  return {
    audit: (change) => audit.info({ audit: true, ...change }, 'changed'),
    divertedLines: () => divertedLines,
  };
}

function open(path: string): number {
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
  try {
    return openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
  } catch (cause) {
    throw new SettingsError(`TOKENRING_AUDIT_LOG: ${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

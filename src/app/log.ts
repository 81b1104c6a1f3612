import { constants, openSync } from 'node:fs';
import { pino, type DestinationStream, type Logger } from 'pino';
import { isatty } from 'node:tty';
import type { Audit } from '../server/edge/audit.js';
import { LineSink } from './line-sink.js';
import type { Settings } from './settings/setting-table.js';
import { SettingsError } from './settings/settings.js';

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

/** The program's log on standard output. A line that cannot be written is dropped and counted. */
export class ProgramLog {
  readonly log: Logger;
  private readonly lines = LineSink.toStdout();
  private readonly isPretty: boolean;
  /** Lost lines that a line of the log has told of. */
  private reported = 0;

  /** @param node returns the id of the node, for each line */
  constructor({ log, logLevel }: Pick<Settings, 'log' | 'logLevel'>, node: () => string | undefined) {
    this.isPretty = isPretty(log);
    this.log = pinoTo(this, logLevel, node);
  }

  /** Writes a line of JSON. */
  write(line: string): void {
    const before = this.lines.dropped;
    this.lines.write(this.isPretty ? prettyLine(line) : line);
    if (this.lines.dropped > before || before === this.reported) return;
    const dropped = before - this.reported;
    this.reported = before;
    this.log.warn({ dropped }, 'log lines were dropped');
  }

  /** Number of lines lost so far, because the disk was full or the reader too slow. */
  get droppedLines(): number {
    return this.lines.dropped;
  }
}

/** Whether log lines are for people. */
export function isPretty(log: Settings['log']): boolean {
  return log === 'pretty' || (log === 'auto' && isatty(1));
}

/**
 * The audit log: an append-only file, or lines of the program's log at every level. If the file does not take the line
 * of a change, the line goes to the program's log and the change stays in force.
 */
export class AuditLog {
  /** Number of changes that went to the program's log because the audit log's file did not take them. */
  divertedLines = 0;
  private readonly lines: Logger;

  /** @throws SettingsError when the file cannot be opened */
  constructor(path: string | undefined, program: ProgramLog, node: () => string | undefined) {
    if (path === undefined) {
      this.lines = pinoTo(program, 'info', node);
      return;
    }
    const sink = LineSink.toFile(open(path), (line, code) => {
      this.divertedLines += 1;
      const change = JSON.parse(line) as unknown;
      program.log.fatal({ auditLog: path, code, change }, 'audit log not written; change logged here');
    });
    this.lines = pinoTo(sink, 'info', node);
  }

  readonly audit: Audit = (change) => this.lines.info({ audit: true, ...change }, 'changed');
}

function open(path: string): number {
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
  try {
    return openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
  } catch (cause) {
    throw new SettingsError(`TOKENRING_AUDIT_LOG: ${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

const LEVELS: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};
/**
 * Fields that the line does not repeat: they stand elsewhere in it, or are too long (the values before and after a
 * change).
 */
const LEFT_OUT: ReadonlySet<string> = new Set(['level', 'time', 'msg', 'node', 'before', 'after', 'audit']);
const MAX_VALUE = 120;

/** Formats a JSON log line for a terminal: `14:03:27 info  joined the ring  members=3`. */
export function prettyLine(json: string): string {
  const fields = JSON.parse(json) as Record<string, unknown> & { level: number; time: number; msg?: string };
  const time = new Date(fields.time).toTimeString().slice(0, 8);
  const more = Object.entries(fields)
    .filter(([name, value]) => !LEFT_OUT.has(name) && value !== undefined)
    .map(([name, value]) => ` ${name}=${shown(value)}`);
  const line = `${time} ${(LEVELS[fields.level] ?? '').padEnd(5)} ${fields.msg ?? ''}${more.length === 0 ? '' : ' '}${more.join('')}`;
  // A logged value must not command the terminal.

  return `${line.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?')}\n`;
}

function shown(value: unknown): string {
  // A list of members or a file name needs no quotes.
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE)}…` : text;
}

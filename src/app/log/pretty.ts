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

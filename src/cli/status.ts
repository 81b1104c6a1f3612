import { parseArgs } from 'node:util';
import { asciiJson } from '../http/decisions/answer.js';
import type { ClusterDescription } from '../http/api/cluster-view.js';
import { SettingsError } from '../settings.js';
import { tokenHeader } from './token.js';

/** `tokenring status`: the members as one node sees them, as a table. @returns the exit code: 0, or 2 when it does not answer */
export async function showStatus(args: readonly string[]): Promise<0 | 2> {
  const url = readUrl(args);
  const headers = tokenHeader(process.env);
  let cluster: ClusterDescription;
  try {
    const response = await fetch(new URL('/v1/cluster', url), { headers, signal: AbortSignal.timeout(5_000) });
    const answer: unknown = await response.json();
    if (!response.ok) {
      process.stderr.write(`${asciiJson(answer)}\n`);
      return 2;
    }
    cluster = answer as ClusterDescription;
  } catch (error) {
    const { cause, message } = error as Error;
    process.stderr.write(`tokenring: ${url} does not answer: ${cause instanceof Error ? cause.message : message}\n`);
    return 2;
  }
  const rows = cluster.members.map(({ id, state, share, version, silentMs }) => {
    return [
      id === cluster.self ? `${id} (asked)` : id,
      state,
      `${(share * 100).toFixed(1)}%`,
      version,
      `${silentMs} ms`,
    ];
  });
  const lines = `${table([['member', 'state', 'share', 'version', 'silent'], ...rows])}ring ${cluster.ringChecksum}\n`;
  // Whoever answers must not give commands to the terminal.
  process.stdout.write(lines.replaceAll(/[^ -~\n]/g, '?'));
  return 0;
}

function readUrl(args: readonly string[]): string {
  try {
    const { values } = parseArgs({ args: [...args], options: { url: { type: 'string' } }, strict: true });
    return values.url ?? 'http://127.0.0.1:8080';
  } catch (cause) {
    throw new SettingsError(`status: ${(cause as Error).message}`, { cause });
  }
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** `npm run faults`: brings real faults on real nodes under load, and prints what they did and whether they may. */
import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OptionError, readOptions, USAGE, type FaultsOptions } from './options.js';
import { runJudged, type Row } from './row.js';
import { ROWS } from './rows.js';
import { heading, line, remarks } from './table.js';
import { missingTool } from './tools.js';
import { missed } from './verdict.js';

/** Of a row whose misses the machine may have caused. */
const TRIES = 3;

/** Runs the rows that were asked for. @returns whether all kept their bounds */
async function main(options: FaultsOptions): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-faults-'));
  if (options.history !== undefined) writeFileSync(options.history, '');
  process.stdout.write(`Logs and histories are in ${folder}, the seed is ${options.run.seed}.\n\n${heading()}`);
  const remarked: string[] = [];
  let ok = true;
  for (const row of ROWS.filter(({ name }) => options.only?.includes(name) ?? true)) {
    const why = row.needs.map(missingTool).find((reason) => reason !== undefined);
    if (why !== undefined) {
      process.stdout.write(`| ${row.fault} | skipped: ${why} | | | - |\n`);
      continue;
    }
    for (let i = 0; i < options.repeat; i += 1) {
      const run = { ...options.run, seed: options.run.seed + 100 * i, folder: join(folder, String(i)) };
      const last = await runJudged(row, run, TRIES, (result, place) => {
        process.stdout.write(line(row.fault, result));
        // What is said below the table comes late, or never where this is ended meanwhile.
        for (const { what, found, bound } of missed(result)) process.stderr.write(`✗ ${what}: ${found} (${bound})\n`);
        if (result.stalls > 0) process.stderr.write(`nodes that the machine kept from running: ${result.stalls}\n`);
        remarked.push(remarks(row.fault, result));
        if (options.history !== undefined) dump(options.history, row, join(place, row.name, 'history.jsonl'));
      });
      ok &&= missed(last).length === 0;
    }
  }
  process.stdout.write(`\n${remarked.join('')}`);
  return ok;
}

/** Appends what a row asked: JSON lines, the first of each row with its name. */
function dump(to: string, { name }: Row, from: string): void {
  appendFileSync(to, `${JSON.stringify({ row: name })}\n${readFileSync(from, 'utf8')}`);
}

try {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) process.stdout.write(USAGE);
  // Ends what a row has failed to end, too.
  process.exit(options === undefined || (await main(options)) ? 0 : 1);
} catch (error) {
  process.stderr.write(`faults: ${error instanceof OptionError ? error.message : String((error as Error).stack)}\n`);
  process.exit(2);
}

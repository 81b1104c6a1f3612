/** `npm run bench`: measures the performance goals as ratios in one run and prints them as a table. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { allow } from './allow.js';
import { batch } from './batch.js';
import { check } from './check.js';
import { client } from './client.js';
import type { Bench, Goal } from './goal.js';
import { grpc } from './grpc.js';
import { halfLoad } from './half-load.js';
import { hop } from './hop.js';
import { lease } from './lease.js';
import { busySeconds, hasProc, shortcomings } from './machine.js';
import { memory } from './memory.js';
import { ownCpuSeconds } from './processes.js';
import { resp } from './resp.js';
import { ring } from './ring.js';
import { workers } from './workers.js';

/** By the name that `--only` takes; in the order of the table. */
const BENCHES: Readonly<Record<string, Bench>> = {
  allow,
  'half-load': halfLoad,
  batch,
  resp,
  check,
  grpc,
  memory,
  lease,
  hop,
  ring,
  workers,
  client,
};
const NAMES = Object.keys(BENCHES);

const USAGE = `npm run bench -- [options]: measures the performance goals

  --only NAME[,NAME...]   ${NAMES.join(', ')}
  --quick                 fewer and shorter slices
  --check                 exit 1 when a figure is more than 10% worse than in test/bench/reference.json
  --keep                  write the figures measured there
  --dist FOLDER           the built package under test (dist/esm)
`;

/** How much of each goal was reached when it was last kept, on a quiet machine. */
const REFERENCE = join(import.meta.dirname, 'reference.json');
/** A figure may be worse than that by this much: the machine is noisy. */
const TOLERANCE = 0.1;

class OptionError extends Error {}

function readOptions() {
  try {
    const { values } = parseArgs({
      strict: true,
      allowPositionals: false,
      options: {
        only: { type: 'string', default: NAMES.join(',') },
        quick: { type: 'boolean', default: false },
        check: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        dist: { type: 'string', default: 'dist/esm' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const only = values.only.split(',');
    const unknown = only.find((name) => !NAMES.includes(name));
    if (unknown !== undefined) throw new OptionError(`--only: there is no "${unknown}", but ${NAMES.join(', ')}`);
    const dist = resolve(values.dist);
    if (!existsSync(`${dist}/cli.js`))
      throw new OptionError(`--dist: no cli.js in ${dist}; build it with: npm run build`);
    return { ...values, only, dist };
  } catch (cause) {
    if (cause instanceof OptionError) throw cause;
    throw new OptionError((cause as Error).message.split('. ')[0], { cause });
  }
}

async function main(): Promise<number> {
  const { only, quick, check: strict, keep, dist, help } = readOptions();
  if (help) {
    process.stdout.write(USAGE);
    return 0;
  }
  for (const sentence of shortcomings()) process.stdout.write(`Note: ${sentence}\n`);
  const progress = (text: string): void => {
    if (process.stderr.isTTY) process.stderr.write(`\x1b[2K\r${text}`);
  };
  const startMs = performance.now();
  const othersBefore = busySeconds() - ownCpuSeconds();
  const goals: Goal[] = [];
  for (const name of NAMES) {
    if (only.includes(name)) goals.push(...(await BENCHES[name]!({ dist, quick, progress })));
  }
  progress('');
  const seconds = (performance.now() - startMs) / 1000;
  process.stdout.write(`${table(goals)}\n`);
  process.stdout.write(
    `\nNode ${process.versions.node}, ${cpus()[0]?.model ?? 'unknown CPU'}; ${Math.round(seconds)} s.`,
  );
  const othersCores = (busySeconds() - ownCpuSeconds() - othersBefore) / seconds;
  if (hasProc) process.stdout.write(` Other programs used ${Math.max(0, othersCores).toFixed(2)} of the two cores.`);
  process.stdout.write('\n');
  const reference = JSON.parse(readFileSync(REFERENCE, 'utf8')) as Record<string, number>;
  const regressed = goals.filter(
    ({ name, reached }) => reached !== undefined && reached < (reference[name] ?? 0) * (1 - TOLERANCE),
  );
  for (const { name, reached } of regressed)
    process.stdout.write(`${name}: ${reached!.toFixed(3)} of its goal, where ${reference[name]} was reached before\n`);
  if (keep) {
    for (const { name, reached } of goals) if (reached !== undefined) reference[name] = Number(reached.toFixed(3));
    writeFileSync(REFERENCE, `${JSON.stringify(reference, null, 2)}\n`);
  }
  return strict && regressed.length > 0 ? 1 : 0;
}

function table(goals: readonly Goal[]): string {
  const verdict = ({ reached }: Goal): string => {
    if (reached === undefined) return '';
    if (reached >= 1) return 'yes';
    return reached < 1 - TOLERANCE ? 'NO' : 'nearly';
  };
  const rows = [
    ['what', 'must reach', 'measured', ''],
    ...goals.map((goal) => [goal.what, goal.mustReach, goal.measured, verdict(goal)]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(rows[0]!), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.slice(1).map(line)].join('\n');
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof OptionError ? error.message : String((error as Error).stack)}\n`);
  process.exitCode = 2;
}

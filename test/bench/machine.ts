import { readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';

/** The server under test has one core, its generator the other. */
export const SERVER_CORE = 0;
export const GENERATOR_CORE = 1;
/** Both, for what uses them at once. */
export const BOTH_CORES = '0,1';

function answers(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).error === undefined;
}

export const hasWrk = answers('wrk', ['-v']);
export const hasH2load = answers('h2load', ['--version']);
export const hasTaskset = answers('taskset', ['-V']);
export const hasProc = readable('/proc/self/stat');

/** What is missing for figures that can be trusted, a sentence each. */
export function shortcomings(): string[] {
  return [
    hasWrk
      ? ''
      : 'wrk is not installed: autocannon asks instead, which may be the bottleneck, so the ratios are too kind.',
    hasTaskset ? '' : 'taskset is not installed: server and generator are not pinned and may take each other’s core.',
    hasProc ? '' : 'There is no /proc: CPU time is not measured.',
  ].filter((sentence) => sentence !== '');
}

/** Linux counts CPU time in hundredths of a second, whatever its timer does. */
const TICKS_PER_SECOND = 100;

/** CPU seconds, user and system, of a process and of its ended children; NaN where there is no /proc. */
export function cpuSeconds(pid: number | 'self'): number {
  if (!hasProc) return NaN;
  // The command's name, in parentheses, may hold anything.
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

/** The processes that this one has started and that live; none where there is no /proc. */
export function childrenOf(pid: number): readonly number[] {
  if (!hasProc) return [];
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}

/** CPU seconds that programs, whosever, have used on the two cores of the benchmark. */
export function busySeconds(): number {
  if (!hasProc) return NaN;
  const lines = readFileSync('/proc/stat', 'latin1').split('\n');
  const ticks = [SERVER_CORE, GENERATOR_CORE].flatMap((core) => {
    const fields = lines.find((line) => line.startsWith(`cpu${core} `))?.split(' ') ?? [];
    return fields.slice(1, 4).map(Number);
  });
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS_PER_SECOND;
}

function readable(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}

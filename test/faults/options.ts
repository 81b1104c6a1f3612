import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { freshDist } from '../support/dist.js';
import { ROWS } from './rows.js';
import type { Pace, RunOptions } from './stage.js';

export interface FaultsOptions {
  /** Names of rows; all without. */
  readonly only: readonly string[] | undefined;
  readonly history: string | undefined;
  readonly repeat: number;
  readonly run: Omit<RunOptions, 'folder'>;
}

/** As the issue on the ring demands. */
const ISSUE: Omit<Pace, 'aroundMs'> = { frozenMs: 3_000, cutMs: 10_000, lossyMs: 30_000, overloadMs: 60_000 };

export const USAGE = `npm run faults -- [options] [-- settings of the nodes]: real faults on real nodes under load

  --only NAME[,NAME...]  ${ROWS.map(({ name }) => name).join(', ')}
  --seconds N            of load before a fault, and at least as many after it   4
  --nodes N              in a cluster, where the fault does not say              3
  --repeat N             runs of each                                            1
  --seed N               of who asks when and where                              any
  --history FILE         where to write what was asked and answered, as JSON lines
  --dist FOLDER          of the built program                                    dist/esm
`;

/** An option that is unknown or not valid: one line that names it, its value and what is expected. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

/** @returns `undefined` when help is asked for @throws OptionError */
export function readOptions(args: readonly string[]): FaultsOptions | undefined {
  const given = parse(args);
  if (given.values.help === true) return undefined;
  const { values, positionals } = given;
  const only = values.only?.split(',');
  for (const name of only ?? []) {
    if (!ROWS.some((row) => row.name === name)) throw new OptionError(`--only: there is no ${JSON.stringify(name)}`);
  }
  const dist = values.dist ?? freshDist();
  if (!existsSync(join(dist, 'cli.js'))) throw new OptionError(`--dist: ${dist} has no cli.js; run: npm run build`);
  return {
    only,
    history: values.history,
    repeat: whole('repeat', values.repeat, 1, 1_000),
    run: {
      nodes: whole('nodes', values.nodes, 3, 9),
      pace: { ...ISSUE, aroundMs: 1_000 * whole('seconds', values.seconds, 1, 600) },
      dist,
      settings: positionals,
      seed: values.seed === undefined ? Date.now() % 1_000_000 : whole('seed', values.seed, 0, 2 ** 32 - 1),
    },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: true,
      options: {
        only: { type: 'string' },
        seconds: { type: 'string', default: '4' },
        nodes: { type: 'string', default: '3' },
        repeat: { type: 'string', default: '1' },
        seed: { type: 'string' },
        history: { type: 'string' },
        dist: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (cause) {
    throw new OptionError((cause as Error).message.split('. ')[0], { cause });
  }
}

function whole(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,12}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new OptionError(
    `--${name}: ${JSON.stringify(text)} is not valid, expected a whole number from ${min} to ${max}`,
  );
}

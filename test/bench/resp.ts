import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePort } from '../support/ports.js';
import { askInTurns, CLIENTS, meetAllClients } from './generator.js';
import { atLeast, count, type Bench } from './goal.js';
import { GENERATOR_CORE, hasProc, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { runScript, startNode, startValkeyServer, type ServerProcess } from './processes.js';
import { measureQuietly } from './quiet.js';
import { missing } from '../support/programs.js';

const PIPELINE = 64;
const SECONDS = 2;

interface Slice {
  readonly perSecond: number;
  /** CPU time of the server for a decision. */
  readonly cpuMicros: number;
}

/**
 * Pipelines of `CL.THROTTLE` over one connection, beside single requests to the same node, and beside the same decision
 * as a script on Valkey.
 */
export const resp: Bench = async ({ dist, quick, progress }) => {
  const respPort = await freePort();
  const node = await startNode(SERVER_CORE, dist, ['--resp-port', `${respPort}`]);
  const valkey = missing('valkey-server') === undefined ? await startValkeyServer(SERVER_CORE) : undefined;
  const script = valkey && (await loadScript(valkey.port));
  const pipelines = async (server: ServerProcess, port: number, kind: string): Promise<Slice> => {
    const cpuBefore = server.cpuSeconds();
    const args = [port, kind, SECONDS, CLIENTS].map(String);
    const { decisions, seconds } = await runScript<{ decisions: number; seconds: number }>(GENERATOR_CORE, [
      join(import.meta.dirname, 'resp-client.js'),
      ...args,
    ]);
    return { perSecond: decisions / seconds, cpuMicros: ((server.cpuSeconds() - cpuBefore) / decisions) * 1e6 };
  };
  progress('resp: warm-up');
  await meetAllClients(node);
  const singles = [{ server: node, limit: 100, batch: 1 }];
  await askInTurns(quick ? 2 : 4, singles);
  const turns = await measureQuietly(quick ? 3 : 7, async (turn) => {
    progress(`resp: turn ${turn + 1}`);
    const ours = await pipelines(node, respPort, 'throttle');
    const [single] = await askInTurns(SECONDS, singles);
    return { ours, single: single!, valkey: valkey && (await pipelines(valkey, valkey.port, script!)) };
  });
  await Promise.all([node.stop(), valkey?.stop()]);

  const perSecond = turns.map(({ ours }) => ours.perSecond);
  const times = turns.map(({ ours, single }) => ours.perSecond / single.requestsPerSecond);
  const pairs = turns.flatMap(({ ours, valkey: theirs }) => (theirs === undefined ? [] : [{ ours, theirs }]));
  const timesValkey = pairs.map(({ ours, theirs }) => theirs.cpuMicros / ours.cpuMicros);
  const micros = (side: 'ours' | 'theirs'): string => median(pairs.map((pair) => pair[side].cpuMicros)).toFixed(2);
  const isMeasured = hasProc && pairs.length > 0;
  return [
    {
      name: 'resp',
      what: `CL.THROTTLE, pipelines of ${PIPELINE}, 1 connection, ${count(CLIENTS)} clients: decisions/s to those of POST /v1/allow`,
      mustReach: '>= 8',
      measured: `${spread(times, (value) => value.toFixed(1))}; ${count(median(perSecond))} decisions/s`,
      reached: atLeast(8, median(times)),
    },
    {
      name: 'resp-valkey',
      what: 'decisions per second of CPU to those of a script on Valkey',
      mustReach: '>= 2',
      measured: isMeasured
        ? `${spread(timesValkey)}; ${micros('ours')} µs to ${micros('theirs')} µs`
        : `not measured: ${missing('valkey-server') ?? 'there is no /proc'}`,
      reached: isMeasured ? atLeast(2, median(timesValkey)) : undefined,
    },
  ];
};

/** @returns the hash of the script that decides as `CL.THROTTLE` does */
async function loadScript(port: number): Promise<string> {
  const redis = new Redis(port);
  const hash = await redis.script('LOAD', readFileSync(join(import.meta.dirname, 'throttle.lua'), 'utf8'));
  redis.disconnect();
  return hash as string;
}

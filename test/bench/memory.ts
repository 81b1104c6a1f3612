import { join } from 'node:path';
import { atMost, count, type Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { runScript } from './processes.js';

interface Memory {
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
}

/** What a client costs, and that a flood of others costs no more: the table is bounded. */
export const memory: Bench = async ({ dist, quick, progress }) => {
  const clients = 1_000_000;
  const flood = quick ? 3_000_000 : 10_000_000;
  progress(`memory: ${count(clients)} clients, then ${count(flood)} others`);
  const script = join(import.meta.dirname, 'memory-process.js');
  const { before, filled, flooded, collected, peakRss } = await runScript<
    Record<'before' | 'filled' | 'flooded' | 'collected', Memory> & { peakRss: number }
  >(SERVER_CORE, ['--expose-gc', script, dist, String(clients), String(flood)]);
  const perClient = (after: Memory, figure: keyof Memory): number => (after[figure] - before[figure]) / clients;
  const growth = flooded.rss / filled.rss;
  return [
    {
      name: 'memory',
      what: `memory, ${count(clients)} clients with 20-byte ids: RSS of the process over that before, bytes a client`,
      mustReach: '<= 120',
      measured: `${count(perClient(filled, 'rss'))} (arrays: ${count(perClient(filled, 'external'))}, heap: ${count(perClient(filled, 'heapUsed'))})`,
      reached: atMost(120, perClient(filled, 'rss')),
    },
    {
      name: 'memory-flood',
      what: `RSS after a flood of ${count(flood)} other ids over that before it`,
      mustReach: '<= 1.1',
      measured: `${growth.toFixed(3)}; ${megabytes(flooded.rss)} to ${megabytes(filled.rss)}, at most ${megabytes(peakRss)}`,
      reached: atMost(1.1, growth),
    },
    {
      name: 'memory-after',
      what: 'memory after that and a forced collection, bytes a client',
      mustReach: '',
      measured: `${count(perClient(collected, 'rss'))} (heap: ${count(perClient(collected, 'heapUsed'))})`,
      reached: undefined,
    },
  ];
};

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

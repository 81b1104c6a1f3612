import { askAsFastAsItGoes } from './generator.js';
import { atLeast, count } from './goal.js';
import type { Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { measurePairs, median, spread } from './pairs.js';
import { startNode } from './processes.js';

const BATCH = 100;

/** Decisions by `POST /v1/allow/batch` against those of one by one. */
export const batch: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const seconds = quick ? 1 : 2;
  // A limit that a million decisions a second do not reach.
  const side = (size: number) => () => askAsFastAsItGoes(node, { seconds, limit: 10_000, batch: size });
  progress('batch: warm-up');
  for (const size of [BATCH, 1, BATCH, 1]) await side(size)();
  const wanted = quick ? 5 : 7;
  const pairs = await measurePairs(wanted, { a: side(BATCH), b: side(1) }, (done) =>
    progress(`batch: pair ${done + 1} of ${wanted}`),
  );
  await node.stop();

  const perSecond = spread(
    pairs.map(({ a }) => a.requestsPerSecond * BATCH),
    0,
  ).median;
  const times = spread(
    pairs.map(({ a, b }) => (a.requestsPerSecond * BATCH) / b.requestsPerSecond),
    1,
  );
  const micros = median(pairs.map(({ a }) => a.cpuMicros / BATCH)).toFixed(2);
  return [
    {
      what: `POST /v1/allow/batch, ${BATCH} decisions each: decisions/s`,
      mustReach: '>= 1,000,000, or 20 times the single path',
      measured: `${count(perSecond)}; ${times.text} times; ${micros} µs CPU each`,
      reached: Math.max(atLeast(1_000_000, perSecond), atLeast(20, times.median)),
    },
  ];
};

import { askAsFastAsItGoes, askAtRate } from './generator.js';
import { atMost, count } from './goal.js';
import type { Bench } from './goal.js';
import { SERVER_CORE } from './machine.js';
import { measurePairs, median, spread } from './pairs.js';
import { startBareServer, startNode } from './processes.js';

/** The p99 of `POST /v1/allow` at half the rate that a bare node:http server can do. */
export const halfLoad: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const bare = await startBareServer(SERVER_CORE, node);
  progress('half-load: warm-up, and the rate of the bare server');
  const fastest: number[] = [];
  for (let i = 0; i < (quick ? 3 : 5); i += 1) {
    await askAsFastAsItGoes(node, { seconds: 1, limit: 100, batch: 1 });
    fastest.push((await askAsFastAsItGoes(bare, { seconds: 1, limit: 100, batch: 1 })).requestsPerSecond);
  }
  // The fastest slice: a disturbed one says less of what the server can do.
  const rate = Math.max(...fastest) / 2;
  const seconds = quick ? 1 : 2;
  const wanted = quick ? 5 : 11;
  let round = 0;
  const pairs = await measurePairs(
    wanted,
    {
      a: () => askAtRate(node, { rate, seconds, round: round++ >> 1 }),
      b: () => askAtRate(bare, { rate, seconds, round: round++ >> 1 }),
    },
    (done) => progress(`half-load: pair ${done + 1} of ${wanted}`),
  );
  await Promise.all([node.stop(), bare.stop()]);

  const ratio = spread(pairs.map(({ a, b }) => a.p99Ms / b.p99Ms));
  const p99 = (side: 'a' | 'b') => median(pairs.map((pair) => pair[side].p99Ms)).toFixed(2);
  return [
    {
      what: `p99 at half of that load (${count(rate)} requests/s, sent in time) over that of bare node:http`,
      mustReach: '<= 1.5',
      measured: `${ratio.text}; ${p99('a')} ms to ${p99('b')} ms`,
      reached: atMost(1.5, ratio.median),
    },
  ];
};

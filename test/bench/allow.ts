import { CONNECTIONS, askAsFastAsItGoes } from './generator.js';
import { atLeast, atMost, count } from './goal.js';
import type { Bench } from './goal.js';
import { hasProc, SERVER_CORE } from './machine.js';
import { measurePairs, median, spread } from './pairs.js';
import { startBareServer, startNode } from './processes.js';

/** `POST /v1/allow` against a bare node:http server that reads, parses and answers the same. */
export const allow: Bench = async ({ dist, quick, progress }) => {
  const node = await startNode(SERVER_CORE, dist);
  const bare = await startBareServer(SERVER_CORE, node);
  const questions = { seconds: quick ? 1 : 2, limit: 100, batch: 1 };
  const side = (server: typeof node) => () => askAsFastAsItGoes(server, questions);
  progress('allow: warm-up');
  for (const server of [node, bare, node, bare]) await side(server)();
  const wanted = quick ? 5 : 9;
  const pairs = await measurePairs(wanted, { a: side(node), b: side(bare) }, (done) =>
    progress(`allow: pair ${done + 1} of ${wanted}`),
  );
  await Promise.all([node.stop(), bare.stop()]);

  const speed = spread(pairs.map(({ a, b }) => a.requestsPerSecond / b.requestsPerSecond));
  const cpu = spread(pairs.map(({ a, b }) => a.cpuMicros / b.cpuMicros));
  const perSecond = (side: 'a' | 'b') => count(median(pairs.map((pair) => pair[side].requestsPerSecond)));
  const micros = (side: 'a' | 'b') => median(pairs.map((pair) => pair[side].cpuMicros)).toFixed(1);
  return [
    {
      what: `POST /v1/allow, ${CONNECTIONS} connections, 100,000 clients: requests/s over those of bare node:http`,
      mustReach: '>= 0.95',
      measured: `${speed.text}; ${perSecond('a')} to ${perSecond('b')}`,
      reached: atLeast(0.95, speed.median),
    },
    {
      what: 'CPU per decision over that of bare node:http',
      mustReach: '<= 1.1',
      measured: hasProc ? `${cpu.text}; ${micros('a')} µs to ${micros('b')} µs` : 'not measured',
      reached: hasProc ? atMost(1.1, cpu.median) : undefined,
    },
  ];
};

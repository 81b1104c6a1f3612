// Calls node.check in this process, as fast as it goes. Argument: the folder of the built package, seconds of a round, rounds.
// Prints one line of JSON: calls a second by round.
import { pathToFileURL } from 'node:url';

const [dist, seconds, rounds] = process.argv.slice(2);
const { createNode } = await import(pathToFileURL(`${dist}/index.js`).href);
const node = await createNode();

const CLIENTS = 100_000;
const CHUNK = 1_000;
const ids = Array.from({ length: CLIENTS }, (_, i) => `client-${String(i).padStart(13, '0')}`);
let next = 0;
function ask() {
  next = (next + 7_919) % CLIENTS;
  return node.check({ clientId: ids[next], limit: 10_000, window: '1m' });
}

const ways = {
  /** One after the other. */
  async sequential() {
    for (let i = 0; i < CHUNK; i += 1) await ask();
  },
  /** Many callers at once, as in a server. */
  async together() {
    const calls = new Array(CHUNK);
    for (let i = 0; i < CHUNK; i += 1) calls[i] = ask();
    await Promise.all(calls);
  },
};

async function callsPerSecond(way) {
  const startMs = performance.now();
  let calls = 0;
  let elapsedMs = 0;
  while (elapsedMs < Number(seconds) * 1000) {
    await way();
    calls += CHUNK;
    // The event loop turns, as it does in a server, so that the node's timers run.
    if (calls % (CHUNK * 100) === 0) await new Promise((resolve) => setImmediate(resolve));
    elapsedMs = performance.now() - startMs;
  }
  return (calls / elapsedMs) * 1000;
}

const result = { sequential: [], together: [] };
await callsPerSecond(ways.sequential);
await callsPerSecond(ways.together);
for (let round = 0; round < Number(rounds); round += 1) {
  for (const name of ['sequential', 'together']) result[name].push(await callsPerSecond(ways[name]));
}
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));

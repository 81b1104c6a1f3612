/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// Calls node.check in this process, as fast as it goes. Arguments: the folder of the built package, seconds a way.
// Prints one line of JSON: calls a second, by how the caller waits.
import { pathToFileURL } from 'node:url';

const [dist, seconds] = process.argv.slice(2);
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
  /** Many at once. */
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

await callsPerSecond(ways.sequential);
await callsPerSecond(ways.together);
const sequential = await callsPerSecond(ways.sequential);
const together = await callsPerSecond(ways.together);
process.stdout.write(`${JSON.stringify({ sequential, together })}\n`, () => process.exit(0));

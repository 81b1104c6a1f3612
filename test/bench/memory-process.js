/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// What clients cost in memory. Arguments: the folder of the built package, clients of the fill, clients of the flood.
// Prints one line of JSON: { before, filled, flooded, collected }, each { rss, heapUsed, external } in bytes, and peakRss.
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [dist, fill, flood] = process.argv.slice(2);
const SETTLE_MS = 5_000;

function memory() {
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heapUsed, external };
}

/** Asks once for each client; a window so long that none is at rest, and so free to go, before the end. */
async function ask(node, from, count, settleMs = SETTLE_MS) {
  for (let i = from; i < from + count; i += 1) {
    // Through JSON, as over HTTP: the id is a string of its own, not a slice or a concatenation.
    await node.check(JSON.parse(`{"clientId":"client-${String(i).padStart(13, '0')}","limit":100,"window":"1d"}`));
    if (i % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await sleep(settleMs);
}

const { createNode } = await import(pathToFileURL(`${dist}/index.js`).href);
await sleep(500);
const node = await createNode({ maxClients: Number(fill) });
// The same few clients again and again: what V8 takes for decisions as such, before there are many clients.
for (let i = 0; i < 300; i += 1) await ask(node, 0, 1_000, 0);
await sleep(SETTLE_MS);
const before = memory();
await ask(node, 0, Number(fill));
const filled = memory();
await ask(node, Number(fill), Number(flood));
const flooded = memory();
const peakRss = process.resourceUsage().maxRSS * 1024;
globalThis.gc?.();
// V8 gives back pages in the background.
await sleep(SETTLE_MS);
const collected = memory();
process.stdout.write(`${JSON.stringify({ before, filled, flooded, collected, peakRss })}\n`, () => process.exit(0));

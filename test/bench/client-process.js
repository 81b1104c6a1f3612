/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// Asks a cluster through the SDK and by plain requests in turns, with so many questions in flight.
// Arguments: the folder of the built package, URLs of the nodes, their process ids, questions in flight, turns, ms of a turn.
// Prints one line of JSON: for each way and turn the decisions, the part of them forwarded, and the CPU seconds of this
// process and of the nodes.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Pool } from 'undici';

const [dist, urlList, pidList, inFlight, turns, turnMs] = process.argv.slice(2);
const urls = urlList.split(',');
const CLIENTS = 20_000;
const CONNECTIONS = 16;
const TICKS_PER_SECOND = 100;

const { createClient } = await import(pathToFileURL(`${dist}/client/index.js`).href);
const client = createClient({ nodes: urls });
const pools = urls.map((url) => new Pool(url, { connections: CONNECTIONS }));

function request(i) {
  return { clientId: `client ${(i * 7_919) % CLIENTS}`, limit: 1_000_000_000, window: '1m' };
}

const ways = {
  sdk: (i) => client.check(request(i)),
  async plain(i) {
    const { body } = await pools[i % pools.length].request({
      method: 'POST',
      path: '/v1/allow',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request(i)),
    });
    return body.json();
  },
};

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  const ofNodes = pidList.split(',').map((pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  });
  return ofNodes.reduce((sum, seconds) => sum + seconds, (user + system) / 1e6);
}

async function turn(ask, forMs) {
  let asked = 0;
  let forwarded = 0;
  const cpuBefore = cpuSeconds();
  const endMs = performance.now() + forMs;
  const loop = async () => {
    while (performance.now() < endMs) if ((await ask(asked++)).source === 'forwarded') forwarded += 1;
  };
  await Promise.all(Array.from({ length: Number(inFlight) }, loop));
  return { decisions: asked, forwarded: forwarded / asked, cpuSeconds: cpuSeconds() - cpuBefore };
}

for (const way of Object.values(ways)) await turn(way, 2 * Number(turnMs));
const results = { sdk: [], plain: [] };
for (let i = 0; i < Number(turns); i += 1)
  for (const [name, way] of Object.entries(ways)) results[name].push(await turn(way, Number(turnMs)));
process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));

/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// Asks a node one question at a time, and sorts the times by who decided. Arguments: port, questions.
// Prints one line of JSON: the p99 of what the node decided itself, and of what it forwarded, in ms.
import { once } from 'node:events';
import { Agent, request } from 'node:http';

const [port, questions] = process.argv.slice(2).map(Number);
const WARM_UP = 1_000;

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const options = { agent, port, method: 'POST', path: '/v1/allow', headers: { 'Content-Type': 'application/json' } };

async function ask(i) {
  const body = `{"clientId":"client-${String(i % 1_000).padStart(13, '0')}","limit":100,"window":"1m"}`;
  const startMs = performance.now();
  const question = request(options).end(body);
  const [answer] = await once(question, 'response');
  let text = '';
  for await (const chunk of answer) text += chunk;
  return { ms: performance.now() - startMs, source: JSON.parse(text).source };
}

for (let i = 0; i < WARM_UP; i += 1) await ask(i);
const timesMs = { owner: [], forwarded: [] };
for (let i = 0; i < questions; i += 1) {
  const { ms, source } = await ask(i);
  timesMs[source].push(ms);
}

function p99(times) {
  return times.sort((x, y) => x - y)[Math.floor(times.length * 0.99)];
}

const figures = { ownP99Ms: p99(timesMs.owner), forwardedP99Ms: p99(timesMs.forwarded) };
process.stdout.write(`${JSON.stringify(figures)}\n`, () => process.exit(0));

/** `npm run load`: drives a running node or cluster with autocannon and prints how it did. */
import { generateLoad, type LoadResult } from './generator.js';
import { OptionError, readOptions, USAGE, type LoadOptions } from './options.js';

async function main(): Promise<void> {
  const { load, json, help } = readOptions(process.argv.slice(2));
  if (help) return void process.stdout.write(USAGE);
  for (const url of load.urls) await requireAnswer(url, load);
  if (!json) process.stdout.write(`${describe(load)}\n\n`);
  const result = await generateLoad(load);
  process.stdout.write(json ? `${JSON.stringify(result)}\n` : table(result));
}

/** @throws OptionError when nobody is there, or what is there does not take the question */
async function requireAnswer(url: string, { limit, window }: LoadOptions): Promise<void> {
  let answer: Response;
  try {
    answer = await fetch(`${url}/v1/allow`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      // A peek, so that it consumes nothing.
      body: JSON.stringify({ clientId: 'load', limit, window, peek: true }),
      signal: AbortSignal.timeout(3_000),
    });
  } catch (cause) {
    const { message } = ((cause as Error).cause ?? cause) as Error;
    throw new OptionError(`nothing answers at ${url} (${message}); start a node with: npm run cluster`, { cause });
  }
  const text = await answer.text();
  if (!text.includes('"allowed":')) throw new OptionError(`${url} is no node: ${answer.status} ${text.slice(0, 200)}`);
}

function describe(load: LoadOptions): string {
  const { urls, connections, durationSeconds, clients, popularity, limit, window, batch } = load;
  const drawn = popularity.kind === 'even' ? 'even' : `Zipf ${popularity.exponent}`;
  const asked = batch === undefined ? 'one decision a request' : `${batch} decisions a request`;
  const per = typeof window === 'number' ? `${window}ms` : window;
  return (
    `${connections} connections for ${durationSeconds} s to ${urls.join(', ')}: ${asked}, ` +
    `${count(clients)} clients (${drawn}), limit ${count(limit)} per ${per}`
  );
}

function table(result: LoadResult): string {
  const { seconds, requests, allowed, denied, errors, unexpected, latencyMs } = result;
  const decisions = allowed + denied;
  const share = (part: number): string => (decisions === 0 ? '' : `  (${((100 * part) / decisions).toFixed(1)}%)`);
  const { p50, p90, p99, p999, max } = latencyMs;
  const rows: [string, string][] = [
    ['decisions/s', count(decisions / seconds)],
    ['requests/s', count(requests / seconds)],
    ['latency p50', milliseconds(p50)],
    ['latency p90', milliseconds(p90)],
    ['latency p99', milliseconds(p99)],
    ['latency p99.9', milliseconds(p999)],
    ['latency max', milliseconds(max)],
    ['allowed', count(allowed) + share(allowed)],
    ['denied', count(denied) + share(denied)],
    ['connection errors', count(errors)],
    ['other statuses', count(unexpected)],
  ];
  return rows.map(([what, figure]) => `${what.padEnd(18)} ${figure}\n`).join('');
}

function count(number: number): string {
  return Math.round(number).toLocaleString('en-US');
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(2)} ms`;
}

try {
  await main();
  // A connection of the check above may still be open.
  process.exit(0);
} catch (error) {
  process.stderr.write(`load: ${error instanceof OptionError ? error.message : String((error as Error).stack)}\n`);
  process.exit(2);
}

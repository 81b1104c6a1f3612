import { isatty } from 'node:tty';
import { Pool } from 'undici';
import { SettingsError } from '../app/settings/settings.js';
import { print } from './print.js';
import { FAILED, tokenHeader, urlOf, type Input, type Run } from './remote.js';

/** Upper bounds of the histogram in ms: doubling from 0.125 to 4,096. */
const BOUNDS_MS = Array.from({ length: 16 }, (_, i) => 0.125 * 2 ** i);
const BAR = 40;

interface Result {
  allowed: number;
  denied: number;
  failed: number;
  readonly latenciesMs: number[];
}

export const bench: Run = async (input) => {
  const url = urlOf(input);
  const seconds = count(input, 'seconds', 10);
  const connections = count(input, 'connections', 16);
  const clients = count(input, 'clients', 1_000);
  const pool = new Pool(url.origin, { connections });
  const headers = { 'content-type': 'application/json', ...tokenHeader(input.env) };
  const result: Result = { allowed: 0, denied: 0, failed: 0, latenciesMs: [] };
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  let asked = 0;
  let lastError = '';

  async function loop(): Promise<void> {
    while (performance.now() < endMs) {
      const body = JSON.stringify({ clientId: `bench-${(asked += 1) % clients}`, limit: 100, window: '1m' });
      const sentMs = performance.now();
      try {
        const response = await pool.request({ path: '/v1/allow', method: 'POST', headers, body });
        const { allowed } = Object(await response.body.json()) as { allowed?: unknown };
        if (typeof allowed !== 'boolean') result.failed += 1;
        else result[allowed ? 'allowed' : 'denied'] += 1;
      } catch (error) {
        result.failed += 1;
        lastError = (error as Error).message;
        // A refused connection fails at once. Without a pause the loop would only count failures.
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      result.latenciesMs.push(performance.now() - sentMs);
    }
  }

  const progress = setInterval(() => {
    const passed = Math.round((performance.now() - startMs) / 1_000);
    if (isatty(2)) process.stderr.write(`\r${passed} of ${seconds} s, ${result.latenciesMs.length} requests`);
  }, 1_000);
  await Promise.all(Array.from({ length: connections }, loop));
  clearInterval(progress);
  if (isatty(2)) process.stderr.write('\r\x1b[K');
  await pool.close();
  const { allowed, denied, failed } = result;
  if (allowed + denied === 0) {
    const why = lastError === '' ? '' : ` (${lastError})`;
    process.stderr.write(`tokenring: ${url.origin} decided none of ${failed} requests${why}\n`);
    return FAILED;
  }
  const sorted = result.latenciesMs.sort((a, b) => a - b);
  const perSecond = Math.round(sorted.length / ((performance.now() - startMs) / 1_000));
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
  const latencyMs = { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: sorted.at(-1)! };
  const summary = { perSecond, allowed, denied, failed, latencyMs };
  print(input.switches.has('json') ? `${JSON.stringify(summary)}\n` : asText(summary, sorted));
  return failed === 0 ? 0 : 1;
};

interface Summary {
  readonly perSecond: number;
  readonly allowed: number;
  readonly denied: number;
  readonly failed: number;
  readonly latencyMs: Readonly<Record<'p50' | 'p90' | 'p99' | 'max', number>>;
}

function asText({ perSecond, allowed, denied, failed, latencyMs }: Summary, sorted: readonly number[]): string {
  const { p50, p90, p99, max } = latencyMs;
  const ms = (value: number): string => `${value.toFixed(2)} ms`;
  return (
    `${perSecond} requests a second: ${allowed} allowed, ${denied} denied, ${failed} failed\n` +
    `latency: median ${ms(p50)}, p90 ${ms(p90)}, p99 ${ms(p99)}, longest ${ms(max)}\n\n${histogram(sorted)}`
  );
}

/** Formats one line for each range of latencies that occurred. */
function histogram(sorted: readonly number[]): string {
  const counts = new Array<number>(BOUNDS_MS.length + 1).fill(0);
  for (const value of sorted) {
    const bound = BOUNDS_MS.findIndex((most) => value <= most);
    counts[bound < 0 ? BOUNDS_MS.length : bound]! += 1;
  }
  const largest = Math.max(...counts);
  const lines = counts.map((times, i) => {
    const label = i < BOUNDS_MS.length ? `<= ${BOUNDS_MS[i]} ms` : `> ${BOUNDS_MS.at(-1)} ms`;
    return times === 0
      ? ''
      : `${label.padStart(12)}  ${'#'.repeat(Math.ceil((times / largest) * BAR)).padEnd(BAR)}  ${times}\n`;
  });
  return lines.join('');
}

function count({ values }: Input, name: string, fallback: number): number {
  const text = values[name];
  if (text === undefined) return fallback;
  if (!/^[1-9]\d{0,6}$/.test(text))
    throw new SettingsError(`--${name}: ${JSON.stringify(text)} is not valid, expected a whole number from 1`);
  return Number(text);
}

import { parseArgs } from 'node:util';
import { parseDuration } from '../../src/limits/duration.js';
import { MAX_BATCH } from '../../src/limits/request/request.js';
import { MAX_LIMIT } from '../../src/limits/bucket/rule.js';
import type { Popularity } from './clients.js';

export interface LoadOptions {
  readonly urls: readonly string[];
  readonly connections: number;
  readonly durationSeconds: number;
  readonly clients: number;
  readonly popularity: Popularity;
  readonly limit: number;
  /** As the request names it: `"1m"`, or whole ms. */
  readonly window: string | number;
  /** Decisions in a request; `undefined` asks one by one at `/v1/allow`. */
  readonly batch: number | undefined;
}

export const USAGE = `npm run load -- [options]: drives a running node or cluster and says how it did

  --url URL[,URL...]    where to ask, in turn by connection             http://127.0.0.1:8080
  --connections N       open at once, each with one request in flight   64
  --duration SECONDS    how long                                        10
  --clients N           how many client ids there are                   100000
  --zipf EXPONENT       a few clients ask most of the time              1.1
  --even                all clients ask equally often
  --limit N             requests allowed per window                     100
  --window WINDOW       "250ms", "10s", "1m", or whole ms               1m
  --batch N             N decisions a request, at /v1/allow/batch
  --json                one line of JSON instead of the table
`;

/** An option that is unknown or not valid: one line that names it, its value and what is expected. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

/** @throws OptionError */
export function readOptions(args: readonly string[]): { load: LoadOptions; json: boolean; help: boolean } {
  const given = parse(args);
  if (given.even === true && given.zipf !== undefined) throw new OptionError('--even: not together with --zipf');
  const windowMs = /^\d+$/.test(given.window) ? parseDuration(`${given.window}ms`) : parseDuration(given.window);
  if (windowMs === undefined) {
    throw invalid('window', given.window, '"250ms", "10s", "1m", "1h", "1d" or whole ms, at most 366 days');
  }
  return {
    load: {
      urls: given.url.split(',').map(readUrl),
      connections: whole('connections', given.connections, 1, 10_000),
      durationSeconds: whole('duration', given.duration, 1, 86_400),
      clients: whole('clients', given.clients, 1, 10_000_000),
      popularity:
        given.even === true ? { kind: 'even' } : { kind: 'zipf', exponent: readExponent(given.zipf ?? '1.1') },
      limit: whole('limit', given.limit, 0, MAX_LIMIT),
      window: /^\d+$/.test(given.window) ? windowMs : given.window,
      batch: given.batch === undefined ? undefined : whole('batch', given.batch, 1, MAX_BATCH),
    },
    json: given.json === true,
    help: given.help === true,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        url: { type: 'string', default: 'http://127.0.0.1:8080' },
        connections: { type: 'string', default: '64' },
        duration: { type: 'string', default: '10' },
        clients: { type: 'string', default: '100000' },
        zipf: { type: 'string' },
        even: { type: 'boolean' },
        limit: { type: 'string', default: '100' },
        window: { type: 'string', default: '1m' },
        batch: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (cause) {
    throw new OptionError((cause as Error).message.split('. ')[0], { cause });
  }
}

function invalid(name: string, text: string, expected: string): OptionError {
  return new OptionError(`--${name}: ${JSON.stringify(text)} is not valid, expected ${expected}`);
}

function whole(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,12}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw invalid(name, text, `a whole number from ${min} to ${max}`);
}

function readExponent(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (value > 0 && value <= 5) return value;
  throw invalid('zipf', text, 'a number above 0, at most 5');
}

function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '') {
    throw invalid('url', text, 'http://host:port');
  }
  return url.origin;
}

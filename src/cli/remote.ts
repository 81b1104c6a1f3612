import { asciiJson } from '../lib/text.js';
import { SettingsError } from '../app/settings/settings.js';
import { print } from './print.js';

/** The parsed command line of a command that asks a node, or needs none. */
export interface Input {
  readonly positionals: readonly string[];
  readonly values: Readonly<Record<string, string | undefined>>;
  /** The switches that were given. */
  readonly switches: ReadonlySet<string>;
  /** The command line after `tokenring`, for errors. */
  readonly usage: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Runs a command. @returns the exit code */
export type Run = (input: Input) => Promise<number> | number;

const TIMEOUT_MS = 5_000;
export const DEFAULT_URL = 'http://127.0.0.1:8080';

/** The exit code of a command that failed. */
export const FAILED = 2;

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

interface AskOptions {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Called with one sentence if no JSON answer comes; by default it goes to standard error. */
  readonly complain?: (sentence: string) => void;
}

function printError(sentence: string): void {
  process.stderr.write(`tokenring: ${sentence}\n`);
}

/**
 * Asks a node, with the token of `TOKENRING_TOKEN`. Complains if no JSON answer comes.
 * @returns `undefined` if no JSON answer comes
 */
export async function ask(
  input: Input,
  path: string,
  { method = 'GET', body, headers = {}, complain = printError }: AskOptions = {},
): Promise<Answer | undefined> {
  const url = urlOf(input);
  const token = tokenHeader(input.env);
  try {
    const response = await fetch(new URL(path, url), {
      method,
      headers: { ...token, ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  } catch (error) {
    complain(`${url.origin} does not answer: ${reasonOf(error)}`);
    return undefined;
  }
}

/** Prints an answer, or the reason why there is none. @returns the exit code: 0 for an answer of 2xx */
export function show(answer: Answer | undefined, input: Input, asText: (body: unknown) => string): number {
  if (answer === undefined) return FAILED;
  if (answer.status >= 300) return showProblem(answer, input);
  print(input.switches.has('json') ? `${asciiJson(answer.body ?? {})}\n` : printable(asText(answer.body)));
  return 0;
}

/**
 * Prints a problem as one sentence, or as JSON with `--json`. If the node wants a token, the sentence says where the
 * command takes it from.
 * @returns the exit code of a failure
 */
export function showProblem({ body, status }: Answer, { switches, env }: Pick<Input, 'switches' | 'env'>): number {
  const { title, detail } = Object(body) as { title?: unknown; detail?: unknown };
  const texts = [title, detail].filter((one) => typeof one === 'string');
  const sentence = texts.length === 0 ? `the node answered ${status}` : printable(texts.join(': '));
  const advice = status === 401 ? `; ${adviceOnToken(env)}` : '';
  process.stderr.write(switches.has('json') ? `${asciiJson(body)}\n` : `tokenring: ${sentence}${advice}\n`);
  return FAILED;
}

function adviceOnToken(env: Input['env']): string {
  return env['TOKENRING_TOKEN']
    ? 'the node does not know the token in TOKENRING_TOKEN'
    : 'set TOKENRING_TOKEN to that token';
}

/** Makes text from a node safe to print: it must not give commands to the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[^ -~\n]/g, '?');
}

export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd();
  return rows.map((row) => `${line(row)}\n`).join('');
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error;
  const reason = cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : message;
  return String(reason).split('\n')[0]!;
}

/** Returns the address of the node to ask: `--url`, else `TOKENRING_URL`. */
export function urlOf({ values, env }: Pick<Input, 'values' | 'env'>): URL {
  const given = values['url'];
  const text = given ?? (env['TOKENRING_URL'] || DEFAULT_URL);
  const url = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^https?:$/.test(parsed.protocol)) {
    const name = given === undefined ? 'TOKENRING_URL' : '--url';
    throw new SettingsError(`${name}: ${JSON.stringify(text)} is not valid, expected host:port or http://host:port`);
  }
  return parsed;
}

/**
 * Returns the header with the token from `TOKENRING_TOKEN` in the environment. A flag would be visible in lists of
 * processes.
 */
export function tokenHeader(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const token = env['TOKENRING_TOKEN'];
  if (token === undefined || token === '') return {};
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new SettingsError('TOKENRING_TOKEN: the value given is not valid, expected printable ASCII without spaces');
  return { authorization: `Bearer ${token}` };
}

import { parseArgs } from 'node:util';
import { asciiJson } from '../http/decisions/answer.js';
import { SettingsError } from '../settings.js';
import { tokenHeader } from './token.js';

/** `tokenring allow CLIENT --limit N --window W`: asks a node over HTTP. @returns the exit code: 0 allowed, 1 denied, 2 error */
export async function askAllow(args: readonly string[]): Promise<0 | 1 | 2> {
  const { clientId, url, request } = readArguments(args);
  const token = tokenHeader(process.env);
  let answer: unknown;
  try {
    const response = await fetch(new URL('/v1/allow', url), {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...token },
      body: JSON.stringify({ clientId, ...request }),
      signal: AbortSignal.timeout(5_000),
    });
    answer = await response.json();
  } catch (error) {
    const { cause, message } = error as Error;
    process.stderr.write(`tokenring: ${url} does not answer: ${cause instanceof Error ? cause.message : message}\n`);
    return 2;
  }
  const { allowed } = Object(answer) as { allowed?: unknown };
  const decided = typeof allowed === 'boolean';
  (decided ? process.stdout : process.stderr).write(`${asciiJson(answer)}\n`);
  return !decided ? 2 : allowed ? 0 : 1;
}

function readArguments(args: readonly string[]): { clientId: string; url: string; request: object } {
  const text = { type: 'string' as const };
  const options = { limit: text, window: text, burst: text, algorithm: text, policy: text, cost: text, url: text };
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    const [clientId, ...rest] = positionals;
    if (clientId === undefined || rest.length > 0) throw new Error('expected one CLIENT');
    const { limit, window, burst, cost, algorithm, policy, url = 'http://127.0.0.1:8080' } = values;
    const numbers = { limit: number(limit), window: number(window), burst: number(burst), cost: number(cost) };
    return { clientId, url, request: { ...numbers, algorithm, policy } };
  } catch (cause) {
    throw new SettingsError(`allow: ${(cause as Error).message.replaceAll('\n', ' ')}`, { cause });
  }
}

/** What is no whole number stays text, for the node to refuse by name. */
function number(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text;
}

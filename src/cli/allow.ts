import { parseArgs } from 'node:util';
import { SettingsError } from '../settings.js';

/** `tokenring allow CLIENT --limit N --window W`: asks a node over HTTP. @returns the exit code: 0 allowed, 1 denied, 2 error */
export async function askAllow(args: readonly string[]): Promise<0 | 1 | 2> {
  const { clientId, url, request } = readArguments(args);
  let response: Response;
  try {
    response = await fetch(new URL('/v1/allow', url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ clientId, ...request }),
      signal: AbortSignal.timeout(5_000),
    });
  } catch (error) {
    const { cause, message } = error as Error;
    process.stderr.write(`tokenring: ${url} does not answer: ${cause instanceof Error ? cause.message : message}\n`);
    return 2;
  }
  const answer = (await response.json()) as { allowed?: boolean };
  if (answer.allowed === undefined) {
    process.stderr.write(`${JSON.stringify(answer)}\n`);
    return 2;
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  return answer.allowed ? 0 : 1;
}

function readArguments(args: readonly string[]): { clientId: string; url: string; request: object } {
  const text = { type: 'string' as const };
  const options = { limit: text, window: text, burst: text, algorithm: text, policy: text, cost: text, url: text };
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    const [clientId, ...rest] = positionals;
    if (clientId === undefined || rest.length > 0) throw new Error('expected one CLIENT');
    const { window, algorithm, policy, url = 'http://127.0.0.1:8080' } = values;
    const numbers = Object.entries({ limit: values.limit, burst: values.burst, cost: values.cost })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, Number(value)] as const);
    const windowValue = window !== undefined && /^\d+$/.test(window) ? Number(window) : window;
    return { clientId, url, request: { ...Object.fromEntries(numbers), window: windowValue, algorithm, policy } };
  } catch (cause) {
    throw new SettingsError(`allow: ${(cause as Error).message}`, { cause });
  }
}

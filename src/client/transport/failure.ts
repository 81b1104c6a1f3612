import { isUnconnected } from '../../lib/unconnected.js';

/** Messages of Bun and Deno, with the code that Node.js has for them. */
const MESSAGES: readonly (readonly [RegExp, string])[] = [
  [/ConnectionRefused|Unable to connect|Connection refused/, 'ECONNREFUSED'],
  [/failed to lookup address|dns error/, 'ENOTFOUND'],
  [/No route to host/, 'EHOSTUNREACH'],
  [/Network is unreachable/, 'ENETUNREACH'],
];
const MAX_CAUSES = 4;

interface Failure {
  readonly reason: Error;
  /** Whether there was no connection. If there was one, the node may have executed the request. */
  readonly unconnected: boolean;
}

/** Explains an error of a transport. The message of the reason names the system's code, if the runtime tells it. */
export function failureOf(error: unknown): Failure {
  // `fetch failed` says nothing. The innermost cause does.
  const chain = [error];
  for (let i = 0; i < MAX_CAUSES; i += 1) {
    const { cause } = Object(chain.at(-1)) as { cause?: unknown };
    if (cause === undefined || cause === null) break;
    chain.push(cause);
  }
  const last = Object(chain.at(-1)) as { message?: string; code?: unknown };
  // The error of a name with several addresses has no message of its own.
  const text = last.message || String(last.code ?? chain.at(-1));
  const code = codeOf(last.code, text);
  const message = code === undefined || text.includes(code) ? text : `${code}: ${text}`;
  return { reason: new Error(message, { cause: error }), unconnected: code !== undefined };
}

/** Runtimes put a code on the error, on its cause, or only into its message. */
function codeOf(code: unknown, message: string): string | undefined {
  if (isUnconnected(code)) return code;
  return MESSAGES.find(([pattern]) => pattern.test(`${String(code)} ${message}`))?.[1];
}

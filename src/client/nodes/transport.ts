import { isUnconnected } from '../../lib/error.js';
import type { Time } from '../runtime.js';

/** A request of the API. */
export interface NodeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** The path below the origin, percent-encoded. */
  readonly path: string;
  /** The body as JSON. */
  readonly body?: string;
  /** Sends no token, as it is not known yet who listens there. */
  readonly anonymous?: boolean;
}

export interface NodeAnswer {
  readonly kind: 'answer';
  readonly status: number;
  /** The parsed JSON; `undefined` for 204. */
  readonly value: unknown;
  /** The value of the header `Retry-After`, if there is one. */
  readonly retryAfterMs: number | undefined;
}

interface Failure {
  readonly kind: 'failed';
  readonly reason: Error;
  /** Whether there was no connection. If there was one, the node may have executed the request. */
  readonly unconnected: boolean;
}

/** The connections to nodes, in the way of one runtime. */
export interface Connections {
  /**
   * Begins an exchange. It fails if there is no answer, or if it is larger than `MAX_ANSWER_BYTES`. Follows no redirect.
   * @returns a function that breaks the exchange off for a reason; the exchange fails then, perhaps much later
   */
  exchange(request: HttpRequest, ends: ExchangeEnds): (reason: Error) => void;
  /** Closes the connections. An exchange that has not ended fails. */
  close(): Promise<void>;
}

/** The end of an exchange. One of the functions is called, once. */
export interface ExchangeEnds {
  readonly answered: (answer: HttpAnswer) => void;
  readonly failed: (error: unknown) => void;
}

interface HttpRequest {
  readonly origin: string;
  readonly method: NodeRequest['method'];
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
}

interface HttpAnswer {
  readonly status: number;
  /** The header `Retry-After`. */
  readonly retryAfter: string | undefined;
  readonly text: string;
}

/** Bound of an answer. 1,000 decisions with eight limits each are below 2 MB. */
export const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

const ACCEPT = { accept: 'application/json, application/problem+json' };

/** Sends requests of the API to nodes. */
export class Transport {
  /** A function, so that no log of a client shows its token. */
  private readonly headersOf: (request: NodeRequest) => Record<string, string>;

  constructor(
    private readonly connections: Connections,
    private readonly time: Pick<Time, 'after'>,
    token: string | undefined,
  ) {
    const known = token === undefined ? ACCEPT : { authorization: `Bearer ${token}`, ...ACCEPT };
    const withBody = { 'content-type': 'application/json', ...known };
    this.headersOf = ({ body, anonymous }) => (anonymous === true ? ACCEPT : body === undefined ? known : withBody);
  }

  /** Never rejects. Settles within `timeoutMs`, and then closes the connection of an exchange that has not ended. */
  send(origin: string, request: NodeRequest, timeoutMs: number): Promise<NodeAnswer | Failure> {
    const { method, path, body } = request;
    return new Promise((resolve) => {
      const end = (result: NodeAnswer | Failure): void => {
        cancel();
        resolve(result);
      };
      const cancel = this.time.after(timeoutMs, () => {
        const reason = new Error(`no answer within ${Math.round(timeoutMs)} ms`);
        // A request that waits for a connection fails only once it has one.
        breakOff(reason);
        resolve({ kind: 'failed', reason, unconnected: false });
      });
      const breakOff = this.connections.exchange(
        { origin, method, path, headers: this.headersOf(request), body },
        { answered: (answer) => end(readAnswer(answer)), failed: (error) => end(failureOf(error)) },
      );
    });
  }
}

function readAnswer({ status, retryAfter, text }: HttpAnswer): NodeAnswer | Failure {
  // Whole seconds. A date is ignored, as clocks differ.
  const retryAfterMs = /^\d{1,9}$/.test(retryAfter ?? '') ? Number(retryAfter) * 1_000 : undefined;
  try {
    return { kind: 'answer', status, value: status === 204 ? undefined : JSON.parse(text), retryAfterMs };
  } catch (error) {
    return failureOf(error);
  }
}

/** Makes connections with the `fetch` of the runtime, which has no options for certificates. */
export class FetchConnections implements Connections {
  private readonly inProgress = new Set<AbortController>();
  private closed: Error | undefined;

  exchange(request: HttpRequest, { answered, failed }: ExchangeEnds): (reason: Error) => void {
    const abort = new AbortController();
    if (this.closed !== undefined) abort.abort(this.closed);
    this.inProgress.add(abort);
    void exchangeByFetch(request, abort.signal)
      .finally(() => this.inProgress.delete(abort))
      .then(answered, failed);
    return (reason) => abort.abort(reason);
  }

  close(): Promise<void> {
    this.closed = new Error('the client is closed');
    for (const abort of this.inProgress) abort.abort(this.closed);
    return Promise.resolve();
  }
}

async function exchangeByFetch(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
  const { origin, path, method, headers, body } = request;
  const init = { method, headers, redirect: 'manual', signal } as const;
  const answer = await fetch(origin + path, body === undefined ? init : { body, ...init });
  const text = await readText(answer);
  return { status: answer.status, retryAfter: answer.headers.get('retry-after') ?? undefined, text };
}

/** @throws Error if the answer is larger than `MAX_ANSWER_BYTES` */
async function readText({ body }: Response): Promise<string> {
  if (body === null) return '';
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for (;;) {
    const { done, value } = (await reader.read()) as { done: boolean; value: Uint8Array | undefined };
    if (done || value === undefined) return text + decoder.decode();
    bytes += value.length;
    if (bytes > MAX_ANSWER_BYTES) {
      await reader.cancel();
      throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** Messages of Bun and Deno, with the code that Node.js has for them. */
const MESSAGES: readonly (readonly [RegExp, string])[] = [
  [/ConnectionRefused|Unable to connect|Connection refused/, 'ECONNREFUSED'],
  [/failed to lookup address|dns error/, 'ENOTFOUND'],
  [/No route to host/, 'EHOSTUNREACH'],
  [/Network is unreachable/, 'ENETUNREACH'],
];
const MAX_CAUSES = 4;

/** Explains an error of a connection. The message of the reason names the system's code, if the runtime tells it. */
export function failureOf(error: unknown): Failure {
  // `fetch failed` says nothing. The innermost cause does.
  let last = error;
  for (let i = 0; i < MAX_CAUSES; i += 1) last = (Object(last) as { cause?: unknown }).cause ?? last;
  const { message, code: given } = Object(last) as { message?: string; code?: unknown };
  // The error of a name with several addresses has no message of its own.
  const text = message || String(given ?? last);
  const code = codeOf(given, text);
  const shown = code === undefined || text.includes(code) ? text : `${code}: ${text}`;
  return { kind: 'failed', reason: new Error(shown, { cause: error }), unconnected: code !== undefined };
}

/** Runtimes put a code on the error, on its cause, or only into its message. */
function codeOf(code: unknown, message: string): string | undefined {
  if (isUnconnected(code)) return code;
  return MESSAGES.find(([pattern]) => pattern.test(`${String(code)} ${message}`))?.[1];
}

import type { Dispatcher } from 'undici';
import type { Time } from './time.js';

export interface Sent {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** The path below the origin, percent-encoded. */
  readonly path: string;
  /** The body as JSON. */
  readonly body?: string;
  /** Sends no token, as it is not known yet who listens there. */
  readonly anonymous?: boolean;
}

/** Result of one exchange with a node. */
export type Exchanged =
  | {
      readonly kind: 'answer';
      readonly status: number;
      /** The parsed JSON; `undefined` for 204. */
      readonly value: unknown;
      /** The value of the header `Retry-After`, if there is one. */
      readonly retryAfterMs: number | undefined;
    }
  | {
      readonly kind: 'failed';
      readonly reason: Error;
      /** Whether there was no connection. If there was one, the node may have executed the request. */
      readonly unconnected: boolean;
    };

export interface Transport {
  /** Never rejects. Settles within `timeoutMs`, and then closes the connection of an exchange that has not ended. */
  send(origin: string, sent: Sent, timeoutMs: number): Promise<Exchanged>;
}

/** Bound of an answer. 1,000 decisions with eight limits each are below 2 MB. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

const UNCONNECTED: readonly unknown[] = [
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
];

export function createTransport(
  { connections, time }: { connections: Dispatcher; time: Time },
  { token }: { token: string | undefined },
): Transport {
  const accept = { accept: 'application/json, application/problem+json' };
  const known = token === undefined ? accept : { ...accept, authorization: `Bearer ${token}` };
  const withBody = { ...known, 'content-type': 'application/json' };

  async function exchange(origin: string, sent: Sent, signal: AbortSignal): Promise<Exchanged> {
    const { method, path, body, anonymous } = sent;
    const answer = await connections.request({
      origin,
      method,
      path,
      headers: anonymous === true ? accept : body === undefined ? known : withBody,
      body: body ?? null,
      signal,
    });
    const text = await readText(answer.body);
    return {
      kind: 'answer',
      status: answer.statusCode,
      value: answer.statusCode === 204 ? undefined : JSON.parse(text),
      retryAfterMs: readRetryAfter(answer.headers['retry-after']),
    };
  }

  return {
    send(origin, sent, timeoutMs) {
      return new Promise((resolve) => {
        const abort = new AbortController();
        const cancel = time.after(timeoutMs, () => {
          const reason = new Error(`no answer within ${Math.round(timeoutMs)} ms`);
          abort.abort(reason);
          // A request that waits for a connection notices the abort only once it has one.
          resolve({ kind: 'failed', reason, unconnected: false });
        });
        exchange(origin, sent, abort.signal)
          .catch((cause: unknown): Exchanged => {
            // The error of a name with several addresses has no message of its own.
            const { message, code } = cause as Error & { code?: unknown };
            const reason = new Error(message || String(code), { cause });
            return { kind: 'failed', reason, unconnected: UNCONNECTED.includes(code) };
          })
          .then((exchanged) => {
            cancel();
            resolve(exchanged);
          }, resolve);
      });
    },
  };
}

/** Reads whole seconds. A date is ignored, as clocks differ. */
function readRetryAfter(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : undefined;
}

/** Reads a body by events, as iterating over it costs as much as the rest of a small exchange. */
function readText(body: Dispatcher.ResponseData['body']): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    body.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      // Destroying the body closes the connection.
      if (bytes > MAX_ANSWER_BYTES) body.destroy(new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`));
      else chunks.push(chunk);
    });
    body.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    body.on('error', reject);
  });
}

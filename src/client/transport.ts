import type { Dispatcher } from 'undici';
import type { Time } from './time.js';

export interface Sent {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below the origin, percent-encoded. */
  readonly path: string;
  /** JSON. */
  readonly body?: string;
}

/** How one exchange with a node ended. */
export type Exchanged =
  | { readonly kind: 'answer'; readonly status: number; readonly value: unknown }
  /** No answer in time, or none that could be read: what was asked may have been done. */
  | { readonly kind: 'failed'; readonly reason: Error };

export interface Transport {
  /** Never rejects. Settles within `timeoutMs`, whatever the node does; then the connection that carried it is closed. */
  send(origin: string, sent: Sent, timeoutMs: number): Promise<Exchanged>;
}

/** 1,000 decisions with eight limits each are below 2 MB. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export function createTransport(
  { connections, time }: { connections: Dispatcher; time: Time },
  { token }: { token: string | undefined },
): Transport {
  const headers: Record<string, string> = { accept: 'application/json, application/problem+json' };
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
  const withBody = { ...headers, 'content-type': 'application/json' };

  async function exchange(origin: string, sent: Sent, signal: AbortSignal): Promise<Exchanged> {
    const { method, path, body } = sent;
    const answer = await connections.request({
      origin,
      method,
      path,
      headers: body === undefined ? headers : withBody,
      body: body ?? null,
      signal,
    });
    const text = await readText(answer.body);
    const value: unknown = answer.statusCode === 204 ? undefined : JSON.parse(text);
    return { kind: 'answer', status: answer.statusCode, value };
  }

  return {
    send(origin, sent, timeoutMs) {
      return new Promise((resolve) => {
        const abort = new AbortController();
        const cancel = time.after(timeoutMs, () => {
          const reason = new Error(`${origin} has not answered within ${Math.round(timeoutMs)} ms`);
          abort.abort(reason);
          // What still waits for a connection ends only with that.
          resolve({ kind: 'failed', reason });
        });
        exchange(origin, sent, abort.signal)
          .catch((cause: unknown): Exchanged => {
            const { message } = cause as Error;
            return { kind: 'failed', reason: new Error(`${origin}: ${message}`, { cause }) };
          })
          .then((exchanged) => {
            cancel();
            resolve(exchanged);
          }, resolve);
      });
    },
  };
}

/** By events, as to iterate over the body costs as much as all else of a small exchange. */
function readText(body: Dispatcher.ResponseData['body']): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    body.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      // The connection is closed with it.
      if (bytes > MAX_ANSWER_BYTES) body.destroy(new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`));
      else chunks.push(chunk);
    });
    body.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    body.on('error', reject);
  });
}

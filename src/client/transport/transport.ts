import type { Time } from '../time.js';
import { failureOf } from './failure.js';

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

/** The connections to nodes, in the way of one runtime. */
export interface Connections {
  /** Rejects if there is no answer, or if it is larger than `MAX_ANSWER_BYTES`. Follows no redirect. */
  exchange(request: HttpRequest): Promise<HttpAnswer>;
  /** Closes the connections. An exchange that has not ended rejects. */
  close(): Promise<void>;
}

interface HttpRequest {
  readonly origin: string;
  readonly method: Sent['method'];
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
}

interface HttpAnswer {
  readonly status: number;
  /** The header `Retry-After`. */
  readonly retryAfter: string | undefined;
  readonly text: string;
}

/** Bound of an answer. 1,000 decisions with eight limits each are below 2 MB. */
export const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export function createTransport(
  { connections, time }: { connections: Connections; time: Time },
  { token }: { token: string | undefined },
): Transport {
  const accept = { accept: 'application/json, application/problem+json' };
  const known = token === undefined ? accept : { ...accept, authorization: `Bearer ${token}` };
  const withBody = { ...known, 'content-type': 'application/json' };

  async function exchange(origin: string, sent: Sent, signal: AbortSignal): Promise<Exchanged> {
    const { method, path, body, anonymous } = sent;
    const headers = anonymous === true ? accept : body === undefined ? known : withBody;
    const { status, retryAfter, text } = await connections.exchange({ origin, method, path, headers, body, signal });
    const value: unknown = status === 204 ? undefined : JSON.parse(text);
    return { kind: 'answer', status, value, retryAfterMs: readRetryAfter(retryAfter) };
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
          .catch((error: unknown): Exchanged => ({ kind: 'failed', ...failureOf(error) }))
          .then((exchanged) => {
            cancel();
            resolve(exchanged);
          }, resolve);
      });
    },
  };
}

/** Reads whole seconds. A date is ignored, as clocks differ. */
function readRetryAfter(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : undefined;
}

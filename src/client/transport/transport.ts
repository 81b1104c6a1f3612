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
  /**
   * Begins an exchange. It fails if there is no answer, or if it is larger than `MAX_ANSWER_BYTES`. Follows no redirect.
   * @returns a function that breaks the exchange off for a reason; the exchange fails then, perhaps much later
   */
  exchange(request: HttpRequest, ended: ExchangeEnds): (reason: Error) => void;
  /** Closes the connections. An exchange that has not ended fails. */
  close(): Promise<void>;
}

/** The end of an exchange. One of the functions is called, once. */
export interface ExchangeEnds {
  readonly answered: (answer: HttpAnswer) => void;
  readonly failed: (error: unknown) => void;
}

export interface HttpRequest {
  readonly origin: string;
  readonly method: Sent['method'];
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
}

export interface HttpAnswer {
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
  const known = token === undefined ? accept : { authorization: `Bearer ${token}`, ...accept };
  const withBody = { 'content-type': 'application/json', ...known };

  function headersOf({ body, anonymous }: Sent): Record<string, string> {
    if (anonymous === true) return accept;
    return body === undefined ? known : withBody;
  }

  return {
    send(origin, sent, timeoutMs) {
      return new Promise((resolve) => {
        const end = (exchanged: Exchanged): void => {
          cancel();
          resolve(exchanged);
        };
        const cancel = time.after(timeoutMs, () => {
          const reason = new Error(`no answer within ${Math.round(timeoutMs)} ms`);
          // A request that waits for a connection fails only once it has one.
          breakOff(reason);
          resolve({ kind: 'failed', reason, unconnected: false });
        });
        const { method, path, body } = sent;
        const breakOff = connections.exchange(
          { origin, method, path, headers: headersOf(sent), body },
          {
            answered: (answer) => end(readAnswer(answer)),
            failed: (error) => end({ kind: 'failed', ...failureOf(error) }),
          },
        );
      });
    },
  };
}

function readAnswer({ status, retryAfter, text }: HttpAnswer): Exchanged {
  try {
    const value: unknown = status === 204 ? undefined : JSON.parse(text);
    return { kind: 'answer', status, value, retryAfterMs: readRetryAfter(retryAfter) };
  } catch (error) {
    return { kind: 'failed', ...failureOf(error) };
  }
}

/** Reads whole seconds. A date is ignored, as clocks differ. */
function readRetryAfter(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : undefined;
}

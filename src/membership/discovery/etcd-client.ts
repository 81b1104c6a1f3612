import type { TlsOptions } from 'node:tls';
import { Pool } from 'undici';
import { EtcdError, isUnavailable, isUndone, NO_AUTH, parseJson, readAnswer, UNAUTHENTICATED } from './etcd-error.js';

export interface EtcdClientOptions {
  /** At least one `http://host:port` or `https://host:port`. If one does not answer, the client uses the next. */
  readonly endpoints: readonly string[];
  readonly user?: { readonly name: string; readonly password: string } | undefined;
  readonly tls?: Pick<TlsOptions, 'ca' | 'cert' | 'key'> | undefined;
}

const AUTHENTICATE = '/v3/auth/authenticate';
const OLD_TOKEN = /invalid auth token|revision of auth store is old|user name is empty/;

/** Bound of one line of a watch. It may hold some thousand members, or eight of the largest policy documents. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** Connections to each member: unary requests and one watch. */
const CONNECTIONS = 4;

/** Speaks etcd's JSON over HTTP with the first member that answers. */
interface EtcdClient {
  /**
   * Sends one request. If a member does not answer within half of the time, the next one is asked, now and for later
   * requests.
   * @throws EtcdError, or the error of the connection, within `timeoutMs`
   */
  call(path: string, body: object, timeoutMs: number): Promise<unknown>;
  /**
   * Passes on each line of a stream, until it calls `ended` once. A stream also ends when the client changes to another
   * member.
   * @returns a function that closes the stream without a call of `ended`
   */
  stream(path: string, body: object, line: (value: unknown) => void, ended: (why: Error) => void): () => void;
  close(): Promise<void>;
}

export function createEtcdClient({ endpoints, user, tls }: EtcdClientOptions): EtcdClient {
  const pools = endpoints.map(
    (endpoint) =>
      new Pool(endpoint, { connections: CONNECTIONS, headersTimeout: 0, bodyTimeout: 0, connect: { ...tls } }),
  );
  const login = createLogin(user);
  let current = 0;
  /** Ends the streams of the current member. */
  let streams = new AbortController();

  function moveOn(from: number): void {
    if (from !== current || pools.length === 1) return;
    current = (current + 1) % pools.length;
    streams.abort(new Error('the member of etcd does not answer'));
    streams = new AbortController();
  }

  async function attempt(path: string, body: object, timeoutMs: number): Promise<unknown> {
    const at = current;
    const pool = pools[at]!;
    const signal = AbortSignal.timeout(timeoutMs);
    const postOnce = async (): Promise<unknown> => post(pool, path, body, await login.token(pool, signal), signal);
    try {
      return await postOnce().catch((error: unknown) => {
        if (!login.isOldToken(error)) throw error;
        login.forget();
        return postOnce();
      });
    } catch (error) {
      if (isUnavailable(error)) moveOn(at);
      throw error;
    }
  }

  async function readLines(path: string, body: object, line: (value: unknown) => void, signal: AbortSignal) {
    const pool = pools[current]!;
    const response = await send(pool, path, body, await login.token(pool, signal), signal);
    if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${await readAll(response.body)}`);
    let rest = '';
    response.body.setEncoding('utf8');
    for await (const chunk of response.body as AsyncIterable<string>) {
      rest += chunk;
      for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
        line(parseJson(rest.slice(0, end)));
        rest = rest.slice(end + 1);
      }
      if (rest.length > MAX_LINE_BYTES) throw new Error('a line of the stream is too long');
    }
    throw new Error('the stream has ended');
  }

  return {
    async call(path, body, timeoutMs) {
      const untilMs = performance.now() + timeoutMs;
      const perAttemptMs = pools.length === 1 ? timeoutMs : Math.ceil(timeoutMs / 2);
      let uncertain: unknown;
      for (let tries = 1; ; tries += 1) {
        const leftMs = Math.ceil(untilMs - performance.now());
        try {
          return await attempt(path, body, Math.max(1, Math.min(perAttemptMs, leftMs)));
        } catch (error) {
          if (!isUnavailable(error)) throw error;
          // If etcd may have executed any attempt, the caller must get the error of that attempt.
          if (!isUndone(error)) uncertain = error;
          if (tries >= pools.length || performance.now() >= untilMs) throw uncertain ?? error;
        }
      }
    },
    stream(path, body, line, ended) {
      const closed = new AbortController();
      readLines(path, body, line, AbortSignal.any([closed.signal, streams.signal])).catch((error: unknown) => {
        if (login.isOldToken(error)) login.forget();
        if (!closed.signal.aborted) ended(error as Error);
      });
      return () => closed.abort();
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.destroy()));
    },
  };
}

/** Gets the token of the user. Without a user, requests carry none. */
function createLogin(user: EtcdClientOptions['user']) {
  let token: Promise<string | undefined> | undefined;

  async function authenticate(pool: Pool, signal: AbortSignal): Promise<string | undefined> {
    try {
      const answer = await post(pool, AUTHENTICATE, user!, undefined, signal);
      return (answer as { token?: string }).token;
    } catch (error) {
      token = undefined;
      // An etcd without authentication needs no token.
      if (error instanceof EtcdError && error.code === NO_AUTH) return undefined;
      throw error;
    }
  }

  return {
    token(pool: Pool, signal: AbortSignal): Promise<string | undefined> {
      if (user === undefined) return Promise.resolve(undefined);
      return (token ??= authenticate(pool, signal));
    },
    forget: () => void (token = undefined),
    /** Tells whether the request may succeed with a new token. */
    isOldToken(error: unknown): boolean {
      if (user === undefined || !(error instanceof EtcdError)) return false;
      return error.code === UNAUTHENTICATED || OLD_TOKEN.test(error.message);
    },
  };
}

function send(pool: Pool, path: string, body: object, authorization: string | undefined, signal: AbortSignal) {
  return pool.request({
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json', ...(authorization !== undefined && { authorization }) },
    body: JSON.stringify(body),
    signal,
  });
}

async function post(
  pool: Pool,
  path: string,
  body: object,
  authorization: string | undefined,
  signal: AbortSignal,
): Promise<unknown> {
  const response = await send(pool, path, body, authorization, signal);
  return readAnswer(response.statusCode, await readAll(response.body));
}

async function readAll(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

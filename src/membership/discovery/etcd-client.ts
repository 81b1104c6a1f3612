import type { TlsOptions } from 'node:tls';
import { Pool } from 'undici';
import { EtcdError, isUnavailable, isUndone, NO_AUTH, parsed, readAnswer, UNAUTHENTICATED } from './etcd-wire.js';

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
export class EtcdClient {
  private readonly pools: Pool[];
  private readonly login: Login;
  private current = 0;
  /** Ends the streams of the current member. */
  private streams = new AbortController();

  constructor(options: EtcdClientOptions) {
    this.pools = options.endpoints.map(
      (endpoint) =>
        new Pool(endpoint, {
          connections: CONNECTIONS,
          headersTimeout: 0,
          bodyTimeout: 0,
          connect: { ...options.tls },
        }),
    );
    this.login = new Login(options.user);
  }

  /**
   * Sends one request. If a member does not answer within half of the time, the next one is asked, now and for later
   * requests.
   * @throws EtcdError, or the error of the connection, within `timeoutMs`
   */
  async call(path: string, body: object, timeoutMs: number): Promise<unknown> {
    const untilMs = performance.now() + timeoutMs;
    const perAttemptMs = this.pools.length === 1 ? timeoutMs : Math.ceil(timeoutMs / 2);
    let uncertain: unknown;
    for (let tries = 1; ; tries += 1) {
      const leftMs = Math.ceil(untilMs - performance.now());
      try {
        return await this.attempt(path, body, Math.max(1, Math.min(perAttemptMs, leftMs)));
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        // If etcd may have executed any attempt, the caller must get the error of that attempt.
        if (!isUndone(error)) uncertain = error;
        if (tries >= this.pools.length || performance.now() >= untilMs) throw uncertain ?? error;
      }
    }
  }

  /**
   * Passes on each line of a stream, until it calls `ended` once. A stream also ends when the client changes to another
   * member.
   * @returns a function that closes the stream without a call of `ended`
   */
  stream(path: string, body: object, line: (value: unknown) => void, ended: (why: Error) => void): () => void {
    const closed = new AbortController();
    this.readLines(path, body, line, AbortSignal.any([closed.signal, this.streams.signal])).catch((error: unknown) => {
      if (this.login.isOldToken(error)) this.login.forget();
      if (!closed.signal.aborted) ended(error as Error);
    });
    return () => closed.abort();
  }

  async close(): Promise<void> {
    await Promise.all(this.pools.map((pool) => pool.destroy()));
  }

  private moveOn(from: number): void {
    if (from !== this.current || this.pools.length === 1) return;
    this.current = (this.current + 1) % this.pools.length;
    this.streams.abort(new Error('the member of etcd does not answer'));
    this.streams = new AbortController();
  }

  private async attempt(path: string, body: object, timeoutMs: number): Promise<unknown> {
    const at = this.current;
    const pool = this.pools[at]!;
    const signal = AbortSignal.timeout(timeoutMs);
    const postOnce = async (): Promise<unknown> => post(pool, path, body, await this.login.token(pool, signal), signal);
    try {
      return await postOnce().catch((error: unknown) => {
        if (!this.login.isOldToken(error)) throw error;
        this.login.forget();
        return postOnce();
      });
    } catch (error) {
      if (isUnavailable(error)) this.moveOn(at);
      throw error;
    }
  }

  private async readLines(
    path: string,
    body: object,
    line: (value: unknown) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const pool = this.pools[this.current]!;
    const response = await send(pool, path, body, await this.login.token(pool, signal), signal);
    if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${await readAll(response.body)}`);
    let rest = '';
    response.body.setEncoding('utf8');
    for await (const chunk of response.body as AsyncIterable<string>) {
      rest += chunk;
      for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
        line(parsed(rest.slice(0, end)));
        rest = rest.slice(end + 1);
      }
      if (rest.length > MAX_LINE_BYTES) throw new Error('a line of the stream is too long');
    }
    throw new Error('the stream has ended');
  }
}

/** Gets the token of the user. Without a user, requests carry none. */
class Login {
  private answer: Promise<string | undefined> | undefined;

  constructor(private readonly user: EtcdClientOptions['user']) {}

  token(pool: Pool, signal: AbortSignal): Promise<string | undefined> {
    if (this.user === undefined) return Promise.resolve(undefined);
    return (this.answer ??= this.authenticate(pool, signal, this.user));
  }

  forget(): void {
    this.answer = undefined;
  }

  /** Tells whether the request may succeed with a new token. */
  isOldToken(error: unknown): boolean {
    if (this.user === undefined || !(error instanceof EtcdError)) return false;
    return error.code === UNAUTHENTICATED || OLD_TOKEN.test(error.message);
  }

  private async authenticate(pool: Pool, signal: AbortSignal, user: object): Promise<string | undefined> {
    try {
      const answer = await post(pool, AUTHENTICATE, user, undefined, signal);
      return (answer as { token?: string }).token;
    } catch (error) {
      this.forget();
      // An etcd without authentication needs no token.
      if (error instanceof EtcdError && error.code === NO_AUTH) return undefined;
      throw error;
    }
  }
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

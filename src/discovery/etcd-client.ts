import type { TlsOptions } from 'node:tls';
import { Pool } from 'undici';

export interface EtcdClientOptions {
  /** `http://host:port` or `https://host:port`, at least one; the others are for when it does not answer. */
  readonly endpoints: readonly string[];
  readonly user?: { readonly name: string; readonly password: string } | undefined;
  readonly tls?: Pick<TlsOptions, 'ca' | 'cert' | 'key'> | undefined;
}

/** What etcd said instead of an answer. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  /** @param code of gRPC */
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** Of gRPC: the member that was asked cannot, another may. */
const UNAVAILABLE = new Set([4, 8, 13, 14]);
const UNAUTHENTICATED = 16;
const NO_AUTH = 9;
/**
 * Of gRPC, said before anything is done: not valid, not permitted, without authentication, who is it. Not that there is no room (8): the
 * write that fills etcd is done all the same.
 */
const REFUSED = new Set([3, 7, NO_AUTH, UNAUTHENTICATED]);
const UNKNOWN = 2;
const OLD_TOKEN = /invalid auth token|revision of auth store is old|user name is empty/;

/** A line of a watch is at most this long: some thousand members at once, or eight of the largest documents of policies. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** Unary requests under way, and one watch. */
const CONNECTIONS = 4;

/** The JSON that etcd speaks over HTTP, to whichever of its members answers. */
interface EtcdClient {
  /**
   * One question. A member that does not answer within half of the time is left for the next, which is then asked first.
   * @throws EtcdError, or the error of the connection, within `timeoutMs`
   */
  call(path: string, body: object, timeoutMs: number): Promise<unknown>;
  /**
   * Hands on each line of a stream, until `ended` is called, once; also when its member is left for another.
   * @returns what closes it without a word
   */
  stream(path: string, body: object, line: (value: unknown) => void, ended: (why: Error) => void): () => void;
  close(): Promise<void>;
}

export function createEtcdClient({ endpoints, user, tls }: EtcdClientOptions): EtcdClient {
  const pools = endpoints.map(
    (endpoint) =>
      new Pool(endpoint, { connections: CONNECTIONS, headersTimeout: 0, bodyTimeout: 0, connect: { ...tls } }),
  );
  let present = 0;
  let token: Promise<string | undefined> | undefined;
  /** Ends the streams of the present member. */
  let leave = new AbortController();

  function moveOn(from: number): void {
    if (from !== present || pools.length === 1) return;
    present = (present + 1) % pools.length;
    leave.abort(new Error('its member of etcd does not answer'));
    leave = new AbortController();
  }

  function send(pool: Pool, path: string, body: object, authorization: string | undefined, signal: AbortSignal) {
    return pool.request({
      method: 'POST',
      path,
      headers: headersOf(authorization),
      body: JSON.stringify(body),
      signal,
    });
  }

  async function post(pool: Pool, path: string, body: object, signal: AbortSignal): Promise<unknown> {
    const authorization = path === AUTHENTICATE ? undefined : await authorize(pool, signal);
    const response = await send(pool, path, body, authorization, signal);
    const text = await readAll(response.body);
    if (!text.startsWith('{'))
      throw new EtcdError(UNKNOWN, `HTTP ${response.statusCode}: ${text.slice(0, 200).trim()}`);
    const answer = parse(text);
    // Of what is a stream to etcd an error may come after the status.
    if (response.statusCode === 200 && !hasError(answer)) return answer;
    throw errorOf(answer, response.statusCode);
  }

  function authorize(pool: Pool, signal: AbortSignal): Promise<string | undefined> {
    if (user === undefined) return Promise.resolve(undefined);
    token ??= post(pool, AUTHENTICATE, user, signal).then(
      (answer) => (answer as { token?: string }).token,
      (error: unknown) => {
        token = undefined;
        // Where authentication is not switched on, nobody needs any.
        if (error instanceof EtcdError && error.code === NO_AUTH) return undefined;
        throw error;
      },
    );
    return token;
  }

  /** @returns whether it is worth asking again with another token */
  function isOldToken(error: unknown): boolean {
    if (user === undefined || !(error instanceof EtcdError)) return false;
    return error.code === UNAUTHENTICATED || OLD_TOKEN.test(error.message);
  }

  async function attempt(path: string, body: object, timeoutMs: number): Promise<unknown> {
    const at = present;
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      try {
        return await post(pools[at]!, path, body, signal);
      } catch (error) {
        if (!isOldToken(error)) throw error;
        token = undefined;
        return await post(pools[at]!, path, body, signal);
      }
    } catch (error) {
      if (isUnavailable(error)) moveOn(at);
      throw error;
    }
  }

  async function open(path: string, body: object, line: (value: unknown) => void, signal: AbortSignal): Promise<void> {
    const pool = pools[present]!;
    const authorization = await authorize(pool, signal);
    const response = await send(pool, path, body, authorization, signal);
    if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${await readAll(response.body)}`);
    let rest = '';
    response.body.setEncoding('utf8');
    for await (const chunk of response.body as AsyncIterable<string>) {
      rest += chunk;
      for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
        line(parse(rest.slice(0, end)));
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
      let doubt: unknown;
      for (let tries = 1; ; tries += 1) {
        const leftMs = Math.ceil(untilMs - performance.now());
        try {
          return await attempt(path, body, Math.max(1, Math.min(perAttemptMs, leftMs)));
        } catch (error) {
          if (!isUnavailable(error)) throw error;
          // One that may have done it says more than one that has not.
          if (!isUndone(error)) doubt = error;
          if (tries >= pools.length || performance.now() >= untilMs) throw doubt ?? error;
        }
      }
    },
    stream(path, body, line, ended) {
      const closed = new AbortController();
      open(path, body, line, AbortSignal.any([closed.signal, leave.signal])).catch((error: unknown) => {
        if (isOldToken(error)) token = undefined;
        if (!closed.signal.aborted) ended(error as Error);
      });
      return () => closed.abort();
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.destroy()));
    },
  };
}

const AUTHENTICATE = '/v3/auth/authenticate';

function headersOf(authorization: string | undefined): Record<string, string> {
  return { 'content-type': 'application/json', ...(authorization !== undefined && { authorization }) };
}

/** Of a connection that was never there. */
const NOT_CONNECTED = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Whether what was asked for has not been done, nor will be: nobody heard of it, or etcd said no. */
export function isUndone(error: unknown): boolean {
  if (error instanceof EtcdError) return REFUSED.has(error.code);
  return NOT_CONNECTED.has(String((error as { code?: unknown }).code));
}

/** Whatever is no answer of etcd's: refused, broken, too late; or that it cannot. */
function isUnavailable(error: unknown): boolean {
  return !(error instanceof EtcdError) || UNAVAILABLE.has(error.code);
}

function hasError(answer: unknown): answer is { readonly error: Said } {
  return typeof answer === 'object' && answer !== null && typeof (answer as { error?: unknown }).error === 'object';
}

interface Said {
  readonly code?: number;
  readonly grpc_code?: number;
  readonly message?: string;
}

function errorOf(answer: unknown, status: number): EtcdError {
  const said = hasError(answer) ? answer.error : (answer as Said);
  const code = said.code ?? said.grpc_code ?? (status === 401 ? UNAUTHENTICATED : UNKNOWN);
  return new EtcdError(code, said.message ?? `HTTP ${status}`);
}

/** @throws Error where it is not JSON */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`not JSON: ${text.slice(0, 100)}`, { cause });
  }
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

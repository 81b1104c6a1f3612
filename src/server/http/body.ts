import type { IncomingMessage, ServerResponse } from 'node:http';
import { parseJson } from '../validate/json.js';
import { TokenringError } from '../../lib/error.js';
import { ArrivingBytes } from '../edge/arriving.js';

const JSON_TYPE = /^application\/json\s*(;|$)/i;
/** The only parameter that changes how to read the body. */
const OTHER_CHARSET = /;\s*charset\s*=(?!\s*"?utf-8"?\s*(;|$))/i;

/**
 * Collects the body of a JSON request, at most `maxBytes` of it. Calls one of the three functions once.
 * @param gone called if the connection breaks first: no caller is left to answer
 */
export function readJsonBody(
  req: IncomingMessage,
  maxBytes: number,
  done: (body: Buffer) => void,
  failed: (problem: TokenringError) => void,
  gone: () => void,
  arriving: ArrivingBytes,
): void {
  const { headers } = req;
  const type = headers['content-type'];
  if (type !== 'application/json' && (type === undefined || !JSON_TYPE.test(type) || OTHER_CHARSET.test(type))) {
    return failed(
      new TokenringError('unsupported_media_type', { field: 'Content-Type', expected: 'application/json in UTF-8' }),
    );
  }
  if (headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity') {
    return failed(new TokenringError('unsupported_media_type', { field: 'Content-Encoding', expected: 'none' }));
  }
  const tooLarge = (): TokenringError =>
    new TokenringError('too_large', { field: 'body', expected: `at most ${maxBytes} bytes` });
  const announced = Number(headers['content-length'] ?? 0);
  if (announced > maxBytes) return failed(tooLarge());

  let first: Buffer | undefined;
  let rest: Buffer[] | undefined;
  let bytes = 0;
  const held = arriving.begin(req.socket.remoteAddress);
  const closed = (): void => {
    held.release();
    if (!req.readableEnded) gone();
  };
  const fail = (problem: TokenringError): void => {
    req.removeAllListeners('data').removeAllListeners('end').off('close', closed);
    held.release();
    failed(problem);
  };
  if (headers.expect !== undefined) sendContinue(req);
  req.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxBytes) fail(tooLarge());
    // A body that arrived in one piece is not counted.
    else if (chunk.length !== announced && !held.add(chunk.length))
      fail(new TokenringError('overloaded', { detail: 'too many bytes are arriving at once' }));
    else if (first === undefined) first = chunk;
    else (rest ??= []).push(chunk);
  });
  req.on('end', () => {
    const body = first === undefined ? Buffer.alloc(0) : rest === undefined ? first : Buffer.concat([first, ...rest]);
    // The request object exists until the next request on its connection. The body is released earlier.
    first = rest = undefined;
    held.release();
    done(body);
  });
  req.on('close', closed);
  // There is no listener for 'error': a request without one ends quietly when its connection breaks.
}

/** Bound of the body of a rare request, in bytes. */
const MAX_BYTES = 64 * 1024;

/** Reads the bodies of rare requests. */
export class BodyReader {
  private readonly arriving: ArrivingBytes;

  /** @param maxArrivingBytes bound of all bodies that are arriving */
  constructor(maxArrivingBytes: number) {
    this.arriving = new ArrivingBytes(maxArrivingBytes);
  }

  /** Reads the value of a JSON request, of at most 64 KiB. @throws TokenringError by rejection */
  async read(req: IncomingMessage): Promise<unknown> {
    const body = await new Promise<Buffer>((resolve, reject) => {
      readJsonBody(req, MAX_BYTES, resolve, reject, () => reject(new TokenringError('timeout')), this.arriving);
    });
    return parseJson(body);
  }
}

/** Requests whose sender waits for `100 Continue` before it sends the body. */
const waiting = new WeakMap<IncomingMessage, { readonly res: ServerResponse; readonly keepsAlive: boolean }>();

/**
 * Notes that the sender waits. It gets `100 Continue` only when a handler wants the body, so that a request with a bad
 * token or length is refused first. If no handler wants the body, the connection ends with the answer, as the sender
 * may or may not send the body.
 */
export function awaitsContinue(req: IncomingMessage, res: ServerResponse): void {
  waiting.set(req, { res, keepsAlive: res.shouldKeepAlive });
  res.shouldKeepAlive = false;
}

/** Sends `100 Continue` if the sender waits for it, as the body is wanted. */
function sendContinue(req: IncomingMessage): void {
  const known = waiting.get(req);
  if (known === undefined) return;
  const { res, keepsAlive } = known;
  waiting.delete(req);
  res.shouldKeepAlive = keepsAlive;
  res.writeContinue();
}

import type { IncomingMessage } from 'node:http';
import { parseJson } from '../validate/json.js';
import { TokenringError } from '../../lib/error.js';
import { ArrivingBytes } from '../edge/arriving.js';
import { sendContinue } from './expect-continue.js';

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

/** Reads the value of a JSON request, of at most 64 KiB. Rejects with a TokenringError. */
export type ReadBody = (req: IncomingMessage) => Promise<unknown>;

/** @param maxArrivingBytes bound of all bodies that are arriving */
export function createBodyReader(maxArrivingBytes: number): ReadBody {
  const arriving = new ArrivingBytes(maxArrivingBytes);
  return async (req) => {
    const body = await new Promise<Buffer>((resolve, reject) => {
      readJsonBody(req, MAX_BYTES, resolve, reject, () => reject(new TokenringError('timeout')), arriving);
    });
    return parseJson(body);
  };
}

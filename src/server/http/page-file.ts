import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, brotliDecompress, gzip } from 'node:zlib';
import type { Request, Response } from 'express';
import type { Turns } from '../../lib/turns.js';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};

/** Bytes of `Accept-Encoding` that are parsed. Browsers send about 30. */
const MAX_ACCEPT_BYTES = 1_024;

type Send = (req: Request, res: Response) => Promise<void>;

/**
 * Sends one file of a page. The package holds the file as brotli. Other forms are made once, off the
 * main thread, and kept: at most the size of the file and its gzip.
 * @param file the address of the file without the ending `.br`
 */
export function createPageFile(file: URL, turns: Turns): Send {
  const br = once(() => readFile(new URL(`${file.href}.br`)));
  const forms = formsOf(
    once(async () => promisify(brotliDecompress)(await br())),
    br,
  );
  const tag = once(
    async () =>
      `W/"${createHash('sha256')
        .update(await br())
        .digest('base64url')}"`,
  );
  const type = TYPES[extname(file.pathname)]!;
  return async (req, res) => {
    const encoding = encodingOf(req);
    const etag = await tag();
    const body = await forms[encoding]();
    turns.run('other', () => {
      res.set('ETag', etag);
      if (isKept(req, etag)) res.vary('Accept-Encoding').status(304).end();
      else send(res, type, encoding, body);
    });
  };
}

/** Sends a text that never changes. Its compressed forms are made once, at the first request for them. */
export function createDocument(type: string, text: string, turns: Turns): Send {
  const bytes = Buffer.from(text);
  const forms = formsOf(
    () => Promise.resolve(bytes),
    once(() => promisify(brotliCompress)(bytes)),
  );
  return async (req, res) => {
    const encoding = encodingOf(req);
    const body = await forms[encoding]();
    turns.run('other', () => send(res, type, encoding, body));
  };
}

type Encoding = 'br' | 'gzip' | 'identity';
type Form = () => Promise<Buffer>;

/** The forms of a document. */
function formsOf(identity: Form, br: Form): Readonly<Record<Encoding, Form>> {
  return { identity, br, gzip: once(async () => promisify(gzip)(await identity())) };
}

function send(res: Response, type: string, encoding: Encoding, body: Buffer): void {
  if (encoding !== 'identity') res.set('Content-Encoding', encoding);
  res.set({ Vary: 'Accept-Encoding', 'Content-Type': type, 'Content-Length': String(body.length) }).end(body);
}

/** The first of the encodings that the asker accepts. The parser's time grows with the header, so it gets a part. */
function encodingOf(req: Request): Encoding {
  const { headers } = req;
  const accepted = headers['accept-encoding'];
  if (accepted !== undefined && accepted.length > MAX_ACCEPT_BYTES)
    headers['accept-encoding'] = accepted.slice(0, Math.max(0, accepted.lastIndexOf(',', MAX_ACCEPT_BYTES - 1)));
  if (req.acceptsEncodings('br') === 'br') return 'br';
  return req.acceptsEncodings('gzip') === 'gzip' ? 'gzip' : 'identity';
}

/** Tells whether the asker has this version (RFC 9110, 13.1.2). */
function isKept({ headers }: Request, etag: string): boolean {
  const kept = (headers['if-none-match'] ?? '').split(',').map((one) => one.trim());
  return kept.some((one) => one === '*' || one === etag || `W/${one}` === etag);
}

/** Remembers the first result, but no failure. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

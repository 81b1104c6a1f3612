import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { promisify } from 'node:util';
import { brotliDecompress, gzip } from 'node:zlib';
import type { Request, Response } from 'express';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};

/**
 * Sends one file of a page. The package holds the file as brotli. Other forms are made once, off the
 * main thread, and kept: at most the size of the file and its gzip.
 * @param file the address of the file without the ending `.br`
 */
export function createPageFile(file: URL): (req: Request, res: Response) => Promise<void> {
  const type = TYPES[extname(file.pathname)]!;
  const br = once(() => readFile(new URL(`${file.href}.br`)));
  const identity = once(async () => promisify(brotliDecompress)(await br()));
  const gz = once(async () => promisify(gzip)(await identity()));
  const tag = once(
    async () =>
      `W/"${createHash('sha256')
        .update(await br())
        .digest('base64url')}"`,
  );
  return async (req, res) => {
    const etag = await tag();
    res.set({ ETag: etag, Vary: 'Accept-Encoding' });
    if (isKept(req, etag)) return void res.status(304).end();
    const encoding = ['br', 'gzip'].find((one) => req.acceptsEncodings(one) === one);
    if (encoding !== undefined) res.set('Content-Encoding', encoding);
    const body = await (encoding === 'br' ? br : encoding === 'gzip' ? gz : identity)();
    res.set({ 'Content-Type': type, 'Content-Length': String(body.length) }).end(body);
  };
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

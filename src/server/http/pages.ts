import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, brotliDecompress, gzip } from 'node:zlib';
import type { Request, RequestHandler, Response } from 'express';
import type { Turns } from '../../lib/turns.js';

/**
 * The pages of a node: `index.html` at the address of the page, its other files below. `config/build-pages.js` writes
 * them to dist/pages.
 */
const PAGES = {
  dashboard: [
    'index.html',
    'dashboard.css',
    'uplot.css',
    'uplot.js',
    ...['api', 'audit', 'charts', 'client', 'dialogs', 'diff', 'dom', 'editor', 'feed', 'format', 'main'].map(script),
    ...['members', 'policies', 'rates', 'ring', 'stream', 'theme', 'tiles', 'top'].map(script),
  ],
  docs: ['index.html', 'start.js', 'swagger-ui.css', 'swagger-ui.js'],
} as const;

function script(name: string): string {
  return `${name}.js`;
}

/** Headers of a page: it may load and call this node only, and nothing in the text of a page runs. */
const HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join(';'),
  // A browser asks each time whether its copy is that of the running version.
  'Cache-Control': 'no-cache',
};

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};

/** Bytes of `Accept-Encoding` that are parsed. Browsers send about 30. */
const MAX_ACCEPT_BYTES = 1_024;

type Encoding = 'br' | 'gzip' | 'identity';
type Form = () => Promise<Buffer>;

/**
 * A text that is sent as it is or compressed. Each form is made once, at the first request for it, off the main thread.
 */
export class Document {
  private readonly forms: Readonly<Record<Encoding, Form>>;

  /** @param etag the tag of a text by which browsers ask whether theirs is that of the running version */
  private constructor(
    private readonly type: string,
    forms: Readonly<Record<'identity' | 'br', Form>>,
    private readonly etag: (() => Promise<string>) | undefined,
    private readonly turns: Turns,
  ) {
    const { identity, br } = forms;
    this.forms = { identity, br, gzip: memoized(async () => promisify(gzip)(await identity())) };
  }

  static ofText(type: string, text: string, turns: Turns): Document {
    const bytes = Buffer.from(text);
    const forms = { identity: () => Promise.resolve(bytes), br: memoized(() => promisify(brotliCompress)(bytes)) };
    return new Document(type, forms, undefined, turns);
  }

  /**
   * One file of a page. The package holds it as brotli.
   * @param file the address of the file without the ending `.br`
   */
  static ofFile(file: URL, turns: Turns): Document {
    const br = memoized(() => readFile(new URL(`${file.href}.br`)));
    const identity = memoized(async () => promisify(brotliDecompress)(await br()));
    const hash = async (): Promise<string> =>
      createHash('sha256')
        .update(await br())
        .digest('base64url');
    const etag = memoized(async () => `W/"${await hash()}"`);
    return new Document(TYPES[extname(file.pathname)]!, { identity, br }, etag, turns);
  }

  readonly send = async (req: Request, res: Response): Promise<void> => {
    const encoding = encodingOf(req);
    const etag = await this.etag?.();
    const body = await this.forms[encoding]();
    this.turns.run('other', () => {
      res.vary('Accept-Encoding');
      if (etag !== undefined) res.set('ETag', etag);
      if (etag !== undefined && isNotModified(req, etag)) return void res.status(304).end();
      if (encoding !== 'identity') res.set('Content-Encoding', encoding);
      res.set({ 'Content-Type': this.type, 'Content-Length': String(body.length) }).end(body);
    });
  };
}

/** Returns the handler of GET of each address that belongs to a page. Files are read at the first request. */
export function pageHandlers(turns: Turns): ReadonlyMap<string, RequestHandler> {
  const folder = new URL(
    'dist/pages/',
    pathToFileURL(createRequire(import.meta.url).resolve('tokenring/package.json')),
  );
  const handlers = new Map<string, RequestHandler>();
  for (const [page, names] of Object.entries(PAGES)) {
    for (const name of names) {
      const file = Document.ofFile(new URL(`${page}/${name}`, folder), turns);
      const isPage = name === 'index.html';
      handlers.set(isPage ? `/${page}` : `/${page}/${name}`, async (req, res) => {
        // The links of a page are relative, so that they work below any prefix of a proxy.
        if (isPage && req.path.endsWith('/')) return res.redirect(308, `../${page}`);
        res.set(HEADERS);
        await file.send(req, res);
      });
    }
  }
  return handlers;
}

/**
 * Leads a browser from the root to the dashboard. Other callers get 404, as they look for something else. It is no route
 * of Express, which would answer OPTIONS by itself.
 */
export const redirectToDashboard: RequestHandler = (req, res, next) => {
  const reads = req.method === 'GET' || req.method === 'HEAD';
  if (!reads || req.path !== '/' || !/\btext\/html\b/i.test(req.headers.accept ?? '')) return next();
  // Relative, as the links of a page.
  res.vary('Accept').status(302).location('dashboard').end();
};

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
function isNotModified({ headers }: Request, etag: string): boolean {
  const kept = (headers['if-none-match'] ?? '').split(',').map((one) => one.trim());
  return kept.some((one) => one === '*' || one === etag || `W/${one}` === etag);
}

/** Remembers the first result, but no failure. */
function memoized<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

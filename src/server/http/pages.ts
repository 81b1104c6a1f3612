import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import type { RequestHandler } from 'express';
import type { Turns } from '../../lib/turns.js';
import { createPageFile } from './page-file.js';

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

/** Returns the handler of GET of each address that belongs to a page. Files are read at the first request. */
export function createPages(turns: Turns): ReadonlyMap<string, RequestHandler> {
  const folder = new URL(
    'dist/pages/',
    pathToFileURL(createRequire(import.meta.url).resolve('tokenring/package.json')),
  );
  const handlers = new Map<string, RequestHandler>();
  for (const [page, names] of Object.entries(PAGES)) {
    for (const name of names) {
      const send = createPageFile(new URL(`${page}/${name}`, folder), turns);
      const isPage = name === 'index.html';
      handlers.set(isPage ? `/${page}` : `/${page}/${name}`, async (req, res) => {
        // The links of a page are relative, so that they work below any prefix of a proxy.
        if (isPage && req.path.endsWith('/')) return res.redirect(308, `../${page}`);
        res.set(HEADERS);
        await send(req, res);
      });
    }
  }
  return handlers;
}

/**
 * Leads a browser from the root to the dashboard. Other callers get 404, as they look for something else. It is no route
 * of Express, which would answer OPTIONS by itself.
 */
export const leadBrowsers: RequestHandler = (req, res, next) => {
  const reads = req.method === 'GET' || req.method === 'HEAD';
  if (!reads || req.path !== '/' || !/\btext\/html\b/i.test(req.headers.accept ?? '')) return next();
  // Relative, as the links of a page.
  res.vary('Accept').status(302).location('dashboard').end();
};

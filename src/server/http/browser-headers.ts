import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from 'helmet';

/**
 * Headers for browsers, as alternating names and values: nothing in an answer runs, loads, or is framed, and nobody
 * keeps it. A page of this API relaxes this with its own policy. There is no HSTS, as a browser would apply it to all
 * ports of this host.
 */
export const BROWSER_HEADERS: readonly string[] = collected();

/** They are the same for each answer, so helmet makes them once. */
function collected(): string[] {
  const headers: string[] = [];
  const setHeader = (name: string, value: string): void => void headers.push(name, value);
  const middleware = helmet({
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    strictTransportSecurity: false,
  });
  const res = { setHeader, removeHeader: () => undefined } as unknown as ServerResponse;
  const req = {} as unknown as IncomingMessage;
  middleware(req, res, () => undefined);
  setHeader('Cache-Control', 'no-store');
  return headers;
}

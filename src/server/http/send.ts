import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from 'helmet';
import type { TokenringError } from '../../lib/error.js';

/** `Retry-After` of a 503. By then an overload has passed, or a balancer has removed the stopping node. */
const RETRY_AFTER_SECONDS = 1;

/**
 * Answers with `application/problem+json`. If the body was not read to its end, the connection ends with the answer.
 */
export function sendProblem(req: IncomingMessage, res: ServerResponse, problem: TokenringError): void {
  if (res.headersSent || res.destroyed) return;
  const body = JSON.stringify(problem);
  const headers = problemHeaders(problem, body);
  res.writeHead(problem.status, closingIfUnread(req, headers));
  res.end(req.method === 'HEAD' ? undefined : body);
}

/** Returns the headers as alternating names and values. */
export function problemHeaders(problem: TokenringError, body: string): string[] {
  const headers = ['Content-Type', 'application/problem+json', 'Content-Length', String(Buffer.byteLength(body))];
  if (problem.code === 'method_not_allowed' && problem.expected !== undefined) headers.push('Allow', problem.expected);
  if (problem.code === 'unauthorized') headers.push('WWW-Authenticate', 'Bearer realm="tokenring"');
  if (problem.status === 503) headers.push('Retry-After', String(RETRY_AFTER_SECONDS));
  return headers;
}

/** Returns the headers of an answer. If the body has not arrived in full, they end the connection. */
export function closingIfUnread(req: IncomingMessage, headers: string[]): string[] {
  if (!bodyPending(req)) return headers;
  // The rest of the body is read and dropped, so that a reset does not lose the answer.
  req.resume();
  return [...headers, 'Connection', 'close'];
}

function bodyPending(req: IncomingMessage): boolean {
  const length = req.headers['content-length'];
  return !req.complete && (req.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0'));
}

/**
 * Sends JSON in ASCII as one plain write. `res.end(body)` would queue an empty chunk and make it a vectored write,
 * which takes a tenth of the time of a small request. The length of an ASCII text is its number of bytes, and nothing
 * is transcoded.
 */
export function sendAsciiJson(res: ServerResponse, status: number, body: string, headers: readonly string[]): void {
  res.writeHead(status, ['Content-Type', 'application/json', 'Content-Length', String(body.length), ...headers]);
  res.write(body, 'latin1');
  res.socket?.uncork();
  res.end();
}

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

import type { IncomingMessage, ServerResponse } from 'node:http';

/** Requests whose sender waits for `100 Continue` before it sends the body. */
const waiting = new WeakMap<IncomingMessage, { readonly res: ServerResponse; readonly keepsAlive: boolean }>();

/**
 * Notes that the sender waits. It hears `100 Continue` only once the body is wanted: a token or a length that is refused is
 * refused first. If the body is never wanted, the connection ends with the answer, as the sender may or may not send it.
 */
export function awaitsContinue(req: IncomingMessage, res: ServerResponse): void {
  waiting.set(req, { res, keepsAlive: res.shouldKeepAlive });
  res.shouldKeepAlive = false;
}

/** The body is wanted. */
export function sendContinue(req: IncomingMessage): void {
  const known = waiting.get(req);
  if (known === undefined) return;
  const { res, keepsAlive } = known;
  waiting.delete(req);
  res.shouldKeepAlive = keepsAlive;
  res.writeContinue();
}

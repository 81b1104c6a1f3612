import type { IncomingMessage, ServerResponse } from 'node:http';

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
export function sendContinue(req: IncomingMessage): void {
  const known = waiting.get(req);
  if (known === undefined) return;
  const { res, keepsAlive } = known;
  waiting.delete(req);
  res.shouldKeepAlive = keepsAlive;
  res.writeContinue();
}

import type { Request } from 'express';
import { warnOnce } from '../warn-once.js';

/**
 * Warns once when `trust proxy` does not fit the requests. Then `req.ip` is not the caller's: all callers are one
 * client, or a caller can claim any address.
 */
export function checkProxy(req: Request): void {
  const trust: unknown = (req as Partial<Request>).app?.get('trust proxy');
  if (trust === undefined) return;
  const isForwarded = req.headers['x-forwarded-for'] !== undefined;
  if (isForwarded && trust === false)
    warnOnce(
      'rateLimit: a request has X-Forwarded-For, but `trust proxy` is off, so all callers behind a proxy are one client; ' +
        'set the number of proxies: app.set("trust proxy", 1)',
      'TOKENRING_UNTRUSTED_PROXY',
    );
  else if (trust === true)
    warnOnce(
      'rateLimit: `trust proxy` is true, so a caller can claim any address; ' +
        'set the number of proxies or their addresses: app.set("trust proxy", 1)',
      'TOKENRING_TRUSTS_ANYBODY',
    );
  else if (!isForwarded && trust !== false)
    warnOnce(
      'rateLimit: `trust proxy` is set, but a request came without X-Forwarded-For, so it did not come through a proxy; ' +
        'let the proxy send that header, or turn `trust proxy` off',
      'TOKENRING_MISSING_PROXY',
    );
}

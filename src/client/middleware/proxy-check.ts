import { warnOnce } from '../runtime.js';
import type { ProxyTrust } from './exchange.js';

/**
 * Warns once when the trust in proxies does not fit the requests. Then the address is not the caller's: all callers are
 * one client, or a caller can claim any address.
 */
export function checkProxy(trust: ProxyTrust | undefined): void {
  if (trust === undefined) return;
  const { trusts, isForwarded, setting, fix } = trust;
  if (isForwarded && trusts === 'nobody')
    warnOnce(
      `rateLimit: a request has X-Forwarded-For, but \`${setting}\` is off, so all callers behind a proxy are one ` +
        `client; say which proxies to trust: ${fix}`,
      'TOKENRING_UNTRUSTED_PROXY',
    );
  else if (trusts === 'anybody')
    warnOnce(
      `rateLimit: \`${setting}\` is true, so a caller can claim any address; ` + `say which proxies to trust: ${fix}`,
      'TOKENRING_TRUSTS_ANYBODY',
    );
  else if (!isForwarded && trusts === 'some')
    warnOnce(
      `rateLimit: \`${setting}\` is set, but a request came without X-Forwarded-For, so it did not come through a ` +
        `proxy; let the proxy send that header, or turn \`${setting}\` off`,
      'TOKENRING_MISSING_PROXY',
    );
}

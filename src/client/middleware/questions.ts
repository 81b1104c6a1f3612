import { TokenringError } from '../../lib/error.js';
import type { AllowRequest } from '../../limits/request/request.js';
import { warnOnce } from '../runtime.js';
import type { Exchange, ProxyTrust } from './exchange.js';
import { settlesLater } from './rate-limit-options.js';
import type { CommonOptions, RequestArgs } from './rate-limit-options.js';

/** Longest client id that a node accepts, in bytes. A text has at least as many bytes as code units. */
const MAX_ID = 256;

/** Number of limiters without a name, by node or client. */
const unnamed = new WeakMap<object, number>();

/** Creates a function that makes the question about a request. */
export function createQuestions<A extends RequestArgs>(
  options: CommonOptions<A>,
): (exchange: Exchange, args: A) => Promise<AllowRequest> {
  const { limiter, key, cost, limit, window, windowMs, burst, algorithm, limits, policy, name } = options;
  const scope = scopeOf(limiter, name, policy !== undefined);
  const given = Object.entries({ limit, window, windowMs, burst, algorithm, limits, policy, cost });
  const fixed = Object.fromEntries(
    given.filter(([, value]) => value !== undefined && value !== true && typeof value !== 'function'),
  );
  if (scope !== undefined) fixed['scope'] = scope;
  const more = settlesLater(options) ? { reserve: true } : undefined;

  return async (exchange, args) => {
    if (key === undefined) checkProxy(exchange.proxyTrust());
    const id: unknown = key === undefined ? exchange.key() : await key(...args);
    // A longer id is not sent, as it may be too large for a message.
    if (typeof id !== 'string' || id === '' || id.length > MAX_ID)
      throw new TokenringError('invalid_request', {
        field: 'clientId',
        expected: 'a text of 1 to 256 bytes from `key`',
      });
    return {
      clientId: id,
      ...fixed,
      ...more,
      ...(typeof limit === 'function' && { limit: await limit(...args) }),
      ...(typeof policy === 'function' && { policy: await policy(...args) }),
      ...(typeof cost === 'function' && { cost: await cost(...args) }),
    };
  };
}

/** Returns the scope of the buckets, so that limiters with equal limits do not share them. The client is the same. */
function scopeOf(limiter: object, name: string | undefined, hasPolicy: boolean): string | undefined {
  if (name !== undefined || hasPolicy) return name;
  const number = (unnamed.get(limiter) ?? 0) + 1;
  unnamed.set(limiter, number);
  return number === 1 ? undefined : `#${number}`;
}

/**
 * Warns once when the trust in proxies does not fit the requests. Then the address is not the caller's: all callers are
 * one client, or a caller can claim any address.
 */
function checkProxy(trust: ProxyTrust | undefined): void {
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

import { networkOf } from '../../lib/address.js';

// The entry of each framework exports these too.
export type { Decision } from '../../limits/decide/decision.js';
export type { Limiter } from '../../limits/request/limiter.js';
export type { AllowRequest, Duration, LimitRequest } from '../../limits/request/request.js';
export type { HeaderStyle } from '../middleware/limit-headers.js';

/**
 * Returns a key for a caller who is known only by an address, such as `req.ip`. The key is the IPv4 address, or the /64
 * of an IPv6 address, as the holder of a /64 has all addresses in it. The key has no port.
 * @returns for example `ip:192.0.2.1` or `ip:2001:db8:1:2::/64`; `ip:unknown` without an address
 */
export function addressKey(address: string | undefined): string {
  return `ip:${networkOf(address ?? 'unknown')}`;
}

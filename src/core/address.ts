import ipaddr from 'ipaddr.js';

/** The holder of an IPv6 address has at least its /64, and with it any address in there. */
const NETWORK_GROUPS = 4;

/**
 * The network whose holder sent from an address: an IPv4 address itself, also when mapped into IPv6; the /64 of an IPv6
 * address. A port or zone behind the address is dropped. Any other text comes back as it is.
 * @returns for example `192.0.2.1`, or `2001:db8:1:2::/64`
 */
export function networkOf(text: string): string {
  const address = withoutPort(text);
  if (ipaddr.IPv4.isValidFourPartDecimal(address)) return address;
  if (!ipaddr.IPv6.isValid(address)) return address;
  const parsed = ipaddr.IPv6.parse(address);
  // `::ffff:192.0.2.1`, also when written `::ffff:c000:201`.
  if (parsed.isIPv4MappedAddress()) return parsed.toIPv4Address().toString();
  const groups = parsed.parts.slice(0, NETWORK_GROUPS).map((group) => group.toString(16));
  return `${groups.join(':')}::/64`;
}

/** Some proxies write `192.0.2.1:5678` or `[2001:db8::1]:5678` into X-Forwarded-For. */
function withoutPort(text: string): string {
  return /^\[([^\]]*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([^:]+):\d+$/.exec(text)?.[1] ?? text;
}

import ipaddr from 'ipaddr.js';

/** Groups in the /64 of an IPv6 address. A user of one IPv6 address has at least its /64, and so any address in it. */
const NETWORK_GROUPS = 4;

/**
 * Returns the network of an address. For IPv4 it is the address itself, also when it is mapped into IPv6. For IPv6 it
 * is the /64. A port or zone after the address is dropped. Any other text is returned unchanged.
 * @returns for example `192.0.2.1`, or `2001:db8:1:2::/64`
 */
export function networkOf(text: string): string {
  const address = withoutPort(text);
  if (ipaddr.IPv4.isValidFourPartDecimal(address)) return address;
  if (!ipaddr.IPv6.isValid(address)) return address;
  const parsed = ipaddr.IPv6.parse(address);
  // `::ffff:192.0.2.1` may also be written as `::ffff:c000:201`.
  if (parsed.isIPv4MappedAddress()) return parsed.toIPv4Address().toString();
  const groups = parsed.parts.slice(0, NETWORK_GROUPS).map((group) => group.toString(16));
  return `${groups.join(':')}::/64`;
}

/** Removes a port: some proxies write `192.0.2.1:5678` or `[2001:db8::1]:5678` into X-Forwarded-For. */
function withoutPort(text: string): string {
  return /^\[([^\]]*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([^:]+):\d+$/.exec(text)?.[1] ?? text;
}

/** Whether a host, as in a setting or a URL, is this machine alone. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** An IPv6 address is one of the many that its holder has: providers give homes a /56 or a /64. */
const PREFIX_BITS = 56;

/**
 * What to call somebody who has only an address: an IPv4 address as it is, of an IPv6 address the network (/56) that it is in, and of what
 * is no address the text itself.
 */
export function addressKey(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const groups = groupsOf(address.replace(/%.*$/, ''));
  if (groups === undefined) return address;
  const whole = Math.floor(PREFIX_BITS / 16);
  const cut = groups[whole]! & (0xffff << (16 - (PREFIX_BITS % 16)));
  const kept = [...groups.slice(0, whole), cut].map((group) => group.toString(16));
  return `${kept.join(':')}::/${PREFIX_BITS}`;
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] | undefined {
  const [head = '', tail, more] = address.split('::');
  if (more !== undefined) return undefined;
  const read = (text: string): number[] => (text === '' ? [] : text.split(':').flatMap(groupOf));
  const [first, last] = [read(head), read(tail ?? '')];
  const missing = 8 - first.length - last.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...first, ...new Array<number>(missing).fill(0), ...last];
  return groups.every((group) => group >= 0 && group <= 0xffff) ? groups : undefined;
}

/** One group, or the two that an IPv4 address at the end stands for. */
function groupOf(text: string): number[] {
  const [a, b, c, d, ...rest] = text.split('.').map(Number);
  if (b === undefined) return [/^[\da-f]{1,4}$/i.test(text) ? parseInt(text, 16) : NaN];
  return rest.length > 0 || d === undefined ? [NaN] : [a! * 256 + b, c! * 256 + d];
}

/**
 * Whose an address is: an IPv4 address, also as IPv6 writes it, is its own; of an IPv6 address the network, as its holder has all of that; and what
 * is no address stays the text that it is.
 * @param prefixBits how much of an IPv6 address tells one holder from another, 1 to 128
 * @returns for example `192.0.2.1`, or `2001:db8:1:200::/56`
 */
export function networkOf(address: string, prefixBits: number): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const groups = groupsOf(address.replace(/%.*$/, ''));
  if (groups === undefined) return address;
  const kept = groups.slice(0, Math.ceil(prefixBits / 16));
  const spareBits = kept.length * 16 - prefixBits;
  kept.push(kept.pop()! & (0xffff << spareBits));
  return `${kept.map((group) => group.toString(16)).join(':')}::/${prefixBits}`;
}

/** The eight groups of an IPv6 address; `undefined` where it is none. */
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

/** One group, or the two that an IPv4 address at the end stands for; `NaN` for what is neither. */
function groupOf(text: string): number[] {
  const [a, b, c, d, ...rest] = text.split('.').map(Number);
  if (b === undefined) return [/^[\da-f]{1,4}$/i.test(text) ? parseInt(text, 16) : NaN];
  return rest.length > 0 || d === undefined ? [NaN] : [a! * 256 + b, c! * 256 + d];
}

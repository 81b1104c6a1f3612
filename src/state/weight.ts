import type { ClientSnapshot } from './client-snapshot.js';

/**
 * Bound of the bytes of copies in one message or answer, as `weightOf` counts them. A peer reads that many in a few
 * milliseconds. 1,000 clients with one bucket each stay below it.
 */
export const MAX_COPIES_BYTES = 512 * 1024;

/** Bytes of a character in JSON, at most: a control character is written as \u0000. */
const CHARACTER_BYTES = 6;
/** Bytes of a number below 2^53, at most, with the comma behind it. */
const NUMBER_BYTES = 17;

/**
 * Returns an upper bound of a client's length on the wire, in bytes. A client with 64 buckets, request ids and
 * reservations can weigh 2 MB, while most weigh 300 bytes. A bound on the number of clients alone would not bound a
 * message.
 */
export function weightOf([clientId, buckets, recent = [], reservations = []]: ClientSnapshot): number {
  let characters = clientId.length;
  let numbers = 1;
  for (const { policy, state, leases = [] } of buckets) {
    characters += policy?.length ?? 0;
    numbers += 7 + state.length + 4 * leases.length;
    for (const { id } of leases) characters += id.length;
  }
  for (const { requestId, verdict } of recent) {
    characters += requestId.length;
    numbers += 16 + 8 * (verdict.limits?.length ?? 0);
  }
  for (const { id, rules, least } of reservations) {
    characters += id.length;
    numbers += 8 + 6 * rules.length + 2 * least.length;
    for (const { policy } of rules) characters += policy?.length ?? 0;
  }
  return characters * CHARACTER_BYTES + numbers * NUMBER_BYTES;
}

/** Splits copies into parts, each of which fits into one message. */
export function inParts(clients: readonly ClientSnapshot[]): ClientSnapshot[][] {
  const parts: ClientSnapshot[][] = [];
  let bytes = Infinity;
  for (const client of clients) {
    const weight = weightOf(client);
    bytes += weight;
    if (bytes > MAX_COPIES_BYTES) {
      parts.push([]);
      bytes = weight;
    }
    parts.at(-1)!.push(client);
  }
  return parts;
}

import type { ClientSnapshot } from '../messages.js';

/**
 * Bytes of the copies in one message or answer, as `weightOf` counts them. Reading so many takes a peer a few milliseconds.
 * 1,000 clients with one bucket each stay below.
 */
export const MAX_COPIES_BYTES = 512 * 1024;

/** In JSON: a control character is written as \u0000. */
const CHARACTER_BYTES = 6;
/** A number below 2^53 with the comma behind it. */
const NUMBER_BYTES = 17;

/**
 * How long a client is on the wire, in bytes, and not less. One with 64 buckets, request ids and reservations can weigh 2 MB,
 * where most weigh 300 bytes: counting clients alone does not bound a message.
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

/** Copies in as many parts as it takes for each to go in one message. */
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

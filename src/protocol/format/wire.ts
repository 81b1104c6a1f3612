import { isUtf8 } from 'node:buffer';
import { malformed, MalformedMessage } from '../../lib/byte-reader.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import type { NodeId } from '../../limits/ring/ring.js';

export const MAX_REQUEST_ID_BYTES = 128;
/** A reservation id is the client's name in base64, and a part that is unique among the client's reservations. */
export const MAX_RESERVATION_BYTES = 512;

/**
 * Parses the JSON of a body. All its strings are well-formed Unicode, so ids that differ here also differ elsewhere.
 * @throws MalformedMessage
 */
export function parseWire(body: Buffer): unknown {
  // Decoding would turn invalid UTF-8 into U+FFFD, which could turn one id into another.
  if (!isUtf8(body)) throw malformed('body', 'UTF-8');
  const text = body.toString('utf8');
  try {
    // A lone surrogate can only arrive as an escape. JSON.stringify makes no such escape from a well-formed string.
    return text.includes('\\ud') || text.includes('\\uD') ? JSON.parse(text, refuseIllFormed) : JSON.parse(text);
  } catch (cause) {
    if (cause instanceof MalformedMessage) throw cause;
    throw new MalformedMessage(`body: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

function refuseIllFormed(_key: string, value: unknown): unknown {
  if (typeof value === 'string' && !value.isWellFormed()) throw malformed('body', 'well-formed Unicode');
  return value;
}

/** Reads a whole number from `min` to `max`. Beyond 2^53 every double is whole. */
export function readWhole(value: unknown, min: number, max: number, what: string): number {
  if (typeof value === 'number' && value >= min && value <= max && Number.isInteger(value)) return value;
  throw malformed(what, `a whole number, ${min} to ${max}`);
}

/** Reads a flag, which is 0 or 1 on the wire. */
export function readFlag(value: unknown, what: string): boolean {
  if (value === 1) return true;
  if (value === 0) return false;
  throw malformed(what, '0 or 1');
}

/** Reads a string of `minBytes` to `maxBytes` in UTF-8. */
export function readText(value: unknown, minBytes: number, maxBytes: number, what: string): string {
  if (typeof value === 'string' && value.length >= minBytes) {
    // A UTF-16 unit takes at most 3 bytes of UTF-8, so most texts need no counting.
    if (value.length * 3 <= maxBytes || Buffer.byteLength(value) <= maxBytes) return value;
  }
  throw malformed(what, `a string of ${minBytes} to ${maxBytes} bytes`);
}

/** Reads an array of `min` to `max` elements. */
export function readList(value: unknown, min: number, max: number, what: string): readonly unknown[] {
  if (Array.isArray(value) && value.length >= min && value.length <= max) return value;
  throw malformed(what, `a list of ${min} to ${max}`);
}

export function mapList<T>(value: unknown, max: number, what: string, read: (item: unknown) => T): T[] {
  return readList(value, 0, max, what).map(read);
}

const NODE_ID = /^([\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\]):([1-9]\d{0,4})$/;
/** A host that ends in a number is valid only as an IPv4 address. */
const ENDS_IN_NUMBER = /(?:^|\.)\d\w*\.?$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;

/** Reads `host:port` or `[v6]:port`, with the syntax of the settings. This node will connect to the address. */
export function readNodeId(value: unknown, what: string): NodeId {
  const match = typeof value === 'string' ? NODE_ID.exec(value) : null;
  if (match !== null && Number(match[2]) <= 65_535 && isHost(match[1]!)) return value as NodeId;
  throw malformed(what, 'host:port');
}

function isHost(host: string): boolean {
  if (host.startsWith('[')) return URL.canParse(`http://${host}`);
  return !ENDS_IN_NUMBER.test(host) || IPV4.test(host);
}

export function readClientId(value: unknown): string {
  return readText(value, 1, MAX_CLIENT_ID_BYTES, 'client id');
}

export function readReservationId(value: unknown): string {
  return readText(value, 1, MAX_RESERVATION_BYTES, 'reservation');
}

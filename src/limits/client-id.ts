export const MAX_CLIENT_ID_BYTES = 256;
/** Valid client ids, for messages. */
export const EXPECTED_CLIENT_ID = `1 to ${MAX_CLIENT_ID_BYTES} bytes of well-formed Unicode`;

/** Largest number of bytes of a UTF-16 code unit in UTF-8. */
export const MAX_UNIT_BYTES = 3;

/**
 * Whether a value is 1 to 256 bytes of well-formed Unicode. A lone surrogate has no UTF-8 form, so two ids with
 * different lone surrogates would be the same on the wire.
 */
export function isClientId(value: unknown): value is string {
  return typeof value === 'string' && isText(value, MAX_CLIENT_ID_BYTES);
}

/** Whether a text is well-formed Unicode of 1 to `maxBytes` bytes in UTF-8. */
export function isText(text: string, maxBytes: number): boolean {
  if (text.length === 0 || !text.isWellFormed()) return false;
  // Most texts need no counting.
  return text.length * MAX_UNIT_BYTES <= maxBytes || utf8Bytes(text) <= maxBytes;
}

export function utf8Bytes(text: string): number {
  let bytes = 0;
  for (const char of text) {
    const point = char.codePointAt(0)!;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}

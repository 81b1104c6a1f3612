/** Bytes to compare: words of four, and the bytes that are left. */
export interface Text {
  readonly length: number;
  readonly words: Int32Array;
  readonly rest: Uint8Array;
}

export function textOf(bytes: Buffer): Text {
  const { length } = bytes;
  const words = Int32Array.from({ length: length >> 2 }, (_, i) => bytes.readInt32LE(4 * i));
  return { length, words, rest: Uint8Array.from(bytes.subarray(4 * words.length)) };
}

/** Whether a text stands at `at`. */
export function standsAt(body: DataView, at: number, { length, words, rest }: Text): boolean {
  if (at + length > body.byteLength) return false;
  for (let i = 0; i < words.length; i += 1) if (body.getInt32(at + 4 * i, true) !== words[i]) return false;
  const left = at + 4 * words.length;
  for (let i = 0; i < rest.length; i += 1) if (body.getUint8(left + i) !== rest[i]) return false;
  return true;
}

/** Bytes to compare: words of four, and the bytes that are left. */
interface Text {
  readonly length: number;
  readonly words: Int32Array;
  readonly rest: Uint8Array;
}

/** The bytes around the id of a message, and what they mean. */
interface Shape<T> {
  readonly before: Text;
  readonly after: Text;
  readonly meaning: T;
}

/**
 * The shapes of messages that came lately. Callers send the same bytes again and again, apart from an id of printable
 * ASCII. So the general way reads the first message of a shape, and those that follow are recognised by their bytes,
 * without a string or an object for each.
 */
export abstract class KnownShapes<T> {
  /** Where the id of the message that was found last stands in its bytes, and the place behind the message. */
  idStart = 0;
  idEnd = 0;
  end = 0;
  /** The one that was found last comes first. */
  private readonly shapes: Shape<T>[] = [];

  /** @param maxBytes bound of the bytes of a shape; longer ones are not remembered */
  constructor(
    private readonly maxShapes: number,
    private readonly maxBytes: number,
  ) {}

  /** Sets `idStart` and `idEnd`. @returns whether an id stands at `at` in the format of these messages */
  protected abstract findId(bytes: Buffer, at: number): boolean;

  /** @returns the meaning of the message at `at`; `undefined` if its shape is not known */
  find(bytes: Buffer, view: DataView, at: number): T | undefined {
    const { shapes } = this;
    // Most shapes have the same bytes before the id, which is then found once.
    let foundAt = -1;
    let hasId = false;
    for (let i = 0; i < shapes.length; i += 1) {
      const shape = shapes[i]!;
      const { before, after } = shape;
      if (!standsAt(view, at, before)) continue;
      if (foundAt !== at + before.length) {
        foundAt = at + before.length;
        hasId = this.findId(bytes, foundAt);
      }
      if (!hasId || !standsAt(view, this.idEnd, after)) continue;
      this.end = this.idEnd + after.length;
      if (i > 0) {
        shapes.splice(i, 1);
        shapes.unshift(shape);
      }
      return shape.meaning;
    }
    return undefined;
  }

  /**
   * Remembers a message whose meaning does not depend on its id.
   * @param before its bytes up to where `findId` finds the id
   * @param after its bytes behind `idEnd`
   */
  add(before: Buffer, after: Buffer, meaning: T): void {
    if (before.length + after.length > this.maxBytes) return;
    this.shapes.unshift({ before: textOf(before), after: textOf(after), meaning });
    if (this.shapes.length > this.maxShapes) this.shapes.pop();
  }
}

function textOf(bytes: Buffer): Text {
  const { length } = bytes;
  const words = Int32Array.from({ length: length >> 2 }, (_, i) => bytes.readInt32LE(4 * i));
  return { length, words, rest: Uint8Array.from(bytes.subarray(4 * words.length)) };
}

/** Whether a text stands at `at`. */
function standsAt(view: DataView, at: number, { length, words, rest }: Text): boolean {
  if (at + length > view.byteLength) return false;
  for (let i = 0; i < words.length; i += 1) if (view.getInt32(at + 4 * i, true) !== words[i]) return false;
  const left = at + 4 * words.length;
  for (let i = 0; i < rest.length; i += 1) if (view.getUint8(left + i) !== rest[i]) return false;
  return true;
}

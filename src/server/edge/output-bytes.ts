/** Room for the head of an answer in front of its body. */
const HEAD_BYTES = 512;
const INITIAL_BYTES = 32 * 1024;
/** An output with more memory than this is not used again. */
const KEPT_BYTES = 256 * 1024;
/** Outputs that are kept for the next answer. */
const MAX_IDLE = 4;
const ZERO = 0x30;
const MAX_INT32 = 0x7fff_ffff;

/** A constant part of an answer, as words that are written one by one. Zeros fill the last word. */
export interface Fragment {
  readonly words: Int32Array;
  readonly length: number;
}

/** An answer in one piece of memory. The caller makes room with `reserve` before it writes. */
export class OutputBytes {
  private bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  private view = viewOf(this.bytes);
  private length = HEAD_BYTES;

  /** Drops what was written. */
  clear(): void {
    this.length = HEAD_BYTES;
  }

  get capacity(): number {
    return this.bytes.length;
  }

  get bodyLength(): number {
    return this.length - HEAD_BYTES;
  }

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * needed);
    this.bytes.copy(larger, HEAD_BYTES, HEAD_BYTES, this.length);
    this.bytes = larger;
    this.view = viewOf(larger);
  }

  append({ words, length }: Fragment): void {
    const { view, length: at } = this;
    for (let i = 0; i < words.length; i += 1) view.setInt32(at + 4 * i, words[i]!, true);
    this.length = at + length;
  }

  /** Writes a text over the last `count` bytes. */
  replaceLast(count: number, ascii: string): void {
    this.length -= count;
    this.text(ascii);
  }

  text(text: string, encoding: 'latin1' | 'utf8' = 'latin1'): void {
    this.length += this.bytes.write(text, this.length, encoding);
  }

  /** Writes a whole number of at least 0 in decimal. */
  whole(value: number): void {
    if (value > MAX_INT32) return this.text(String(value));
    const { bytes } = this;
    let digits = 1;
    for (let bound = 10; value >= bound; bound *= 10) digits += 1;
    let rest = value | 0;
    for (let at = this.length + digits - 1; at >= this.length; at -= 1) {
      const tens = (rest / 10) | 0;
      bytes[at] = ZERO + rest - 10 * tens;
      rest = tens;
    }
    this.length += digits;
  }

  body(): string {
    return this.bytes.toString('latin1', HEAD_BYTES, this.length);
  }

  /** @param head in ASCII */
  withHead(head: string): Buffer {
    const start = HEAD_BYTES - head.length;
    if (start < 0) return Buffer.concat([Buffer.from(head, 'latin1'), this.bytes.subarray(HEAD_BYTES, this.length)]);
    this.bytes.write(head, start, 'latin1');
    return this.bytes.subarray(start, this.length);
  }
}

interface OutputPool {
  /** Returns an empty output. */
  take(): OutputBytes;
  /** Called when nothing reads the memory of the output any more. */
  giveBack(out: OutputBytes): void;
}

export function createOutputPool(): OutputPool {
  const idle: OutputBytes[] = [];
  return {
    take() {
      const out = idle.pop() ?? new OutputBytes();
      out.clear();
      return out;
    },
    giveBack(out) {
      if (idle.length < MAX_IDLE && out.capacity <= KEPT_BYTES) idle.push(out);
    },
  };
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

export function fragmentOf(ascii: string): Fragment {
  const { length } = ascii;
  const bytes = Buffer.alloc(4 * Math.ceil(length / 4));
  bytes.write(ascii, 'latin1');
  return { words: Int32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i)), length };
}

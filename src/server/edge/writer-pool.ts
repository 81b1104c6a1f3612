import { ByteWriter } from '../../lib/byte-writer.js';

/** Room for the head of an answer in front of its body. */
const HEAD_BYTES = 512;
const INITIAL_BYTES = 32 * 1024;
/** A writer with more memory than this is not used again. */
const KEPT_BYTES = 256 * 1024;
/** Writers that are kept for the next answers. */
const MAX_IDLE = 4;

/** Writers of answers, whose memory is used again. */
export class WriterPool {
  private readonly idle: ByteWriter[] = [];

  /** Returns an empty writer. */
  take(): ByteWriter {
    const out = this.idle.pop() ?? new ByteWriter(HEAD_BYTES, INITIAL_BYTES);
    out.clear();
    return out;
  }

  /** Called when nothing reads the memory of the writer any more. */
  giveBack(out: ByteWriter): void {
    if (this.idle.length < MAX_IDLE && out.bytes.length <= KEPT_BYTES) this.idle.push(out);
  }
}

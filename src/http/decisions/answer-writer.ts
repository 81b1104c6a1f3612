import type { Answer, CheckBatch, Origin, VisitPlain } from '../../core/decide/check-batch.js';
import { TokenringError } from '../../core/error.js';
import { countDecision, countProblem } from '../../edge/counters.js';
import type { Counters } from '../../edge/counters.js';
import { asciiJson, decisionJson, originJson } from './answer.js';

/** Room for the head of the response in front of its body. */
const HEAD_BYTES = 512;
const INITIAL_BYTES = 32 * 1024;
/** A writer with more memory than this is not used again. */
const KEPT_BYTES = 256 * 1024;
/** Writers without a batch that are kept for the next one. */
const MAX_IDLE = 4;
/** Upper bound of a usual answer without its origin. */
const PLAIN_BYTES = 256;

/** The body of a response, in ASCII. It must be sent or copied before the next turn of the event loop. */
export interface AnswerBytes {
  readonly length: number;
  text(): string;
  /**
   * Sends the body with a head in front of it, in one piece of memory.
   * @param write returns whether all bytes were copied: their memory is then used again
   */
  send(head: string, write: (bytes: Buffer) => boolean): void;
}

/** Writes the answers of one batch. */
interface AnswerWriter {
  /** Writes the answers from place `from` to before `to`, and counts them. */
  write(batch: CheckBatch, from: number, to: number): void;
  /** Called once, after the last answer. */
  end(): AnswerBytes;
}

interface AnswerWriters {
  begin(): AnswerWriter;
}

/** A constant part of an answer, as words that are written one by one. Zeros fill the last word. */
interface Fragment {
  readonly words: Int32Array;
  readonly length: number;
}

const NO_WAIT = fragmentOf(',"retryAfterMs":0,"resetMs":');
const NEVER = fragmentOf(',"retryAfterMs":null,"resetMs":');
const WAIT = fragmentOf(',"retryAfterMs":');
const RESET = fragmentOf(',"resetMs":');
/** Origins whose last parts are kept. */
const MAX_TAILS = 256;
const BEGIN = '{"results":[';
const END = ']}';
const COMMA = ',';
const ZERO = 0x30;
const MAX_INT32 = 0x7fff_ffff;

/**
 * Writes answers as bytes into memory that is used again, without a string for each. `answer.ts` has the same answers as
 * strings; a test compares the two.
 */
export function createAnswerWriters(counters: Counters): AnswerWriters {
  const idle: ResponseBytes[] = [];

  /** The first part of the last allowed and of the last denied answer, as most answers share them. */
  const heads = { allowed: headOf(true, 0), denied: headOf(false, 0) };
  /** The last parts of answers, by their origin. */
  const tails = new Map<Origin, Fragment>();

  function tailOf(origin: Origin): Fragment {
    let tail = tails.get(origin);
    if (tail === undefined) {
      if (tails.size >= MAX_TAILS) tails.clear();
      tails.set(origin, (tail = fragmentOf(`${originJson(origin)}},`)));
    }
    return tail;
  }

  function otherJson(answer: Answer): string {
    if (answer instanceof TokenringError) {
      countProblem(counters, answer.code);
      return asciiJson({ error: answer });
    }
    countDecision(counters, answer.allowed, answer);
    return decisionJson(answer);
  }

  return {
    begin() {
      const out = idle.pop() ?? new ResponseBytes();
      out.begin(BEGIN);

      const plain: VisitPlain = (allowed, limit, remaining, retryAfterMs, resetMs, origin) => {
        countDecision(counters, allowed, origin);
        const outcome = allowed ? 'allowed' : 'denied';
        if (heads[outcome].limit !== limit) heads[outcome] = headOf(allowed, limit);
        const tail = tailOf(origin);
        out.reserve(PLAIN_BYTES + tail.length);
        out.append(heads[outcome].head);
        out.whole(remaining);
        if (retryAfterMs === 0) out.append(NO_WAIT);
        else if (retryAfterMs < 0) out.append(NEVER);
        else {
          out.append(WAIT);
          out.whole(retryAfterMs);
          out.append(RESET);
        }
        out.whole(resetMs);
        out.append(tail);
      };

      function other(answer: Answer): void {
        const json = otherJson(answer);
        out.reserve(json.length + COMMA.length);
        out.text(json);
        out.text(COMMA);
      }

      return {
        write: (batch, from, to) => batch.visit(from, to, plain, other),
        end() {
          out.reserve(END.length);
          out.replaceLast(COMMA.length, END);
          return {
            length: out.bodyLength,
            text() {
              const text = out.body();
              giveBack(out);
              return text;
            },
            send(head, write) {
              if (write(out.withHead(head))) giveBack(out);
            },
          };
        },
      };
    },
  };

  function giveBack(out: ResponseBytes): void {
    if (idle.length < MAX_IDLE && out.capacity <= KEPT_BYTES) idle.push(out);
  }
}

/** A response in one piece of memory. The caller makes room with `reserve` before it writes. */
class ResponseBytes {
  private bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  private view = viewOf(this.bytes);
  private length = HEAD_BYTES;

  begin(ascii: string): void {
    this.length = HEAD_BYTES;
    this.text(ascii);
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

  text(ascii: string): void {
    this.length += this.bytes.write(ascii, this.length, 'latin1');
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

function headOf(allowed: boolean, limit: number): { readonly limit: number; readonly head: Fragment } {
  return { limit, head: fragmentOf(`{"allowed":${allowed},"limit":${limit},"remaining":`) };
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function fragmentOf(ascii: string): Fragment {
  const { length } = ascii;
  const bytes = Buffer.alloc(4 * Math.ceil(length / 4));
  bytes.write(ascii, 'latin1');
  return { words: Int32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i)), length };
}

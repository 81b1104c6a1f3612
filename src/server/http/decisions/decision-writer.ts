import { asciiJson } from '../../../lib/text.js';
import { fragmentOf, type ByteWriter, type Fragment } from '../../../lib/byte-writer.js';
import type { Steps } from '../../../lib/turns.js';
import type { BatchItem, CheckBatch } from '../../../limits/decide/check-batch.js';
import type { Counters } from '../../edge/counters.js';
import { ProvenanceFragments, WriterPool } from '../../edge/answer-buffers.js';

/** Upper bound of the figures of an answer, with the constant parts around them. */
const FIGURES_BYTES = 256;

/** The body of a response, in ASCII. It must be sent or copied before the next turn of the event loop. */
export interface ResponseBody {
  readonly length: number;
  text(): string;
  /**
   * Sends the body with a head in front of it, in one piece of memory.
   * @param write returns whether all bytes were copied: their memory is then used again
   */
  send(head: string, write: (bytes: Buffer) => boolean): void;
}

/** Items of a batch that are written between two reads of the clock. */
const ITEMS_A_STEP = 16;
const NO_WAIT = fragmentOf(',"retryAfterMs":0,"resetMs":');
const NEVER = fragmentOf(',"retryAfterMs":null,"resetMs":');
const WAIT = fragmentOf(',"retryAfterMs":');
const RESET = fragmentOf(',"resetMs":');
const CLOSE = fragmentOf('}');
const CLOSE_ITEM = fragmentOf('},');
const BEGIN = '{"results":[';
const END = ']}';

/**
 * Writes decisions as JSON in ASCII, as bytes in memory that is used again, without a string for each. A test checks that
 * they equal what `JSON.stringify` writes.
 */
export class JsonDecisionWriter {
  private readonly pool = new WriterPool();
  /** The first part of the last allowed and of the last denied answer, as most answers share them. */
  private readonly heads = { allowed: headOf(true, 0), denied: headOf(false, 0) };
  private readonly provenances = new ProvenanceFragments(
    ({ owner, source, degraded }) => `,"owner":${asciiJson(owner)},"source":"${source}","degraded":${degraded}`,
  );

  constructor(private readonly counters: Counters) {}

  /** Writes a decision, and counts it. */
  one(item: BatchItem): ResponseBody {
    this.counters.countDecision(item.allowed, item.provenance!);
    const out = this.pool.take();
    this.writeDecision(out, item);
    out.fragment(CLOSE);
    return this.bytesOf(out);
  }

  /** Writes a decision as a gateway shows it to its caller, without anything about the cluster, and counts it. */
  figures(item: BatchItem): ResponseBody {
    this.counters.countDecision(item.allowed, item.provenance!);
    const out = this.pool.take();
    this.writeFigures(out, item);
    out.fragment(CLOSE);
    return this.bytesOf(out);
  }

  /**
   * Writes the answers of a batch in steps, and counts them. An item without a decision has the problem in its place.
   * @param done is called with the body in the last step
   */
  *writing({ items }: CheckBatch, done: (body: ResponseBody) => void): Steps<void> {
    const out = this.pool.take();
    out.ascii(BEGIN);
    for (let index = 0; index < items.length; index += 1) {
      if (index > 0 && index % ITEMS_A_STEP === 0) yield;
      this.writeItem(out, items[index]!);
    }
    out.reserve(END.length);
    // In place of the last comma.
    out.length -= 1;
    out.ascii(END);
    done(this.bytesOf(out));
  }

  private writeItem(out: ByteWriter, item: BatchItem): void {
    if (item.error === undefined) {
      this.counters.countDecision(item.allowed, item.provenance!);
      this.writeDecision(out, item);
    } else {
      this.counters.countProblem(item.error.code);
      writeText(out, `{"error":${asciiJson(item.error)}`);
    }
    out.fragment(CLOSE_ITEM);
  }

  /** Writes a decision without its closing brace. */
  private writeDecision(out: ByteWriter, item: BatchItem): void {
    this.writeFigures(out, item);
    const { limits, extras } = item;
    out.fragment(this.provenances.of(item.provenance!));
    if (limits !== undefined) writeText(out, `,"limits":${JSON.stringify(limits)}`);
    if (extras?.reservation !== undefined) writeText(out, `,"reservation":${asciiJson(extras.reservation)}`);
    if (extras?.shadow !== undefined) writeText(out, `,"shadow":${JSON.stringify(extras.shadow)}`);
  }

  /** Writes the beginning of a decision, and makes room for its usual rest. */
  private writeFigures(out: ByteWriter, item: BatchItem): void {
    const { allowed, limit, remaining, retryAfterMs, resetMs } = item;
    out.reserve(FIGURES_BYTES + this.provenances.of(item.provenance!).length);
    const outcome = allowed ? 'allowed' : 'denied';
    if (this.heads[outcome].limit !== limit) this.heads[outcome] = headOf(allowed, limit);
    out.fragment(this.heads[outcome].head);
    out.decimal(remaining);
    if (retryAfterMs === 0) out.fragment(NO_WAIT);
    else if (retryAfterMs === null) out.fragment(NEVER);
    else {
      out.fragment(WAIT);
      out.decimal(retryAfterMs);
      out.fragment(RESET);
    }
    out.decimal(resetMs);
  }

  private bytesOf(out: ByteWriter): ResponseBody {
    const { pool } = this;
    return {
      length: out.size,
      text() {
        const text = out.written().toString('latin1');
        pool.giveBack(out);
        return text;
      },
      send(head, write) {
        if (write(out.withHead(head))) pool.giveBack(out);
      },
    };
  }
}

/** Writes a text of any length, and makes room for the end of the answer. */
function writeText(out: ByteWriter, text: string): void {
  out.reserve(text.length + FIGURES_BYTES);
  out.ascii(text);
}

function headOf(allowed: boolean, limit: number): { readonly limit: number; readonly head: Fragment } {
  return { limit, head: fragmentOf(`{"allowed":${allowed},"limit":${limit},"remaining":`) };
}

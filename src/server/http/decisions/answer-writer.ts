import type { BatchItem, CheckBatch } from '../../../limits/decide/check-batch.js';
import { countDecision, countProblem } from '../../edge/counters.js';
import { fragmentOf } from '../../../lib/byte-writer.js';
import type { Fragment } from '../../../lib/byte-writer.js';
import { OriginFragments } from '../../edge/origin-fragments.js';
import { WriterPool } from '../../edge/writer-pool.js';
import type { Counters } from '../../edge/counters.js';
import { asciiJson, decisionJson, originJson } from './answer.js';

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

const NO_WAIT = fragmentOf(',"retryAfterMs":0,"resetMs":');
const NEVER = fragmentOf(',"retryAfterMs":null,"resetMs":');
const WAIT = fragmentOf(',"retryAfterMs":');
const RESET = fragmentOf(',"resetMs":');
const BEGIN = '{"results":[';
const END = ']}';
const COMMA = ',';

/**
 * Writes answers as bytes into memory that is used again, without a string for each. `answer.ts` has the same answers as
 * strings; a test compares the two.
 */
export function createAnswerWriters(counters: Counters): AnswerWriters {
  const pool = new WriterPool();

  /** The first part of the last allowed and of the last denied answer, as most answers share them. */
  const heads = { allowed: headOf(true, 0), denied: headOf(false, 0) };
  const tails = new OriginFragments((origin) => `${originJson(origin)}},`);

  function otherJson(item: BatchItem): string {
    if (item.error !== undefined) {
      countProblem(counters, item.error.code);
      return asciiJson({ error: item.error });
    }
    countDecision(counters, item.allowed, item.origin!);
    return decisionJson(item.decision);
  }

  return {
    begin() {
      const out = pool.take();
      out.ascii(BEGIN);

      const plain = ({ allowed, limit, remaining, retryAfterMs, resetMs, origin }: BatchItem): void => {
        countDecision(counters, allowed, origin!);
        const outcome = allowed ? 'allowed' : 'denied';
        if (heads[outcome].limit !== limit) heads[outcome] = headOf(allowed, limit);
        const tail = tails.of(origin!);
        out.reserve(PLAIN_BYTES + tail.length);
        out.fragment(heads[outcome].head);
        out.decimal(remaining);
        if (retryAfterMs === 0) out.fragment(NO_WAIT);
        else if (retryAfterMs === null) out.fragment(NEVER);
        else {
          out.fragment(WAIT);
          out.decimal(retryAfterMs);
          out.fragment(RESET);
        }
        out.decimal(resetMs);
        out.fragment(tail);
      };

      function other(item: BatchItem): void {
        const json = otherJson(item);
        out.reserve(json.length + COMMA.length);
        out.ascii(json);
        out.ascii(COMMA);
      }

      return {
        write(batch, from, to) {
          for (let index = from; index < to; index += 1) {
            const item = batch.items[index]!;
            const isPlain = item.error === undefined && item.limits === undefined && item.extras === undefined;
            if (isPlain) plain(item);
            else other(item);
          }
        },
        end() {
          out.reserve(END.length);
          // In place of the last comma.
          out.length -= COMMA.length;
          out.ascii(END);
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
        },
      };
    },
  };
}

function headOf(allowed: boolean, limit: number): { readonly limit: number; readonly head: Fragment } {
  return { limit, head: fragmentOf(`{"allowed":${allowed},"limit":${limit},"remaining":`) };
}

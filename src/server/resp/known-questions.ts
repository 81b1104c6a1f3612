import type { CheckParams } from '../../limits/decide/decide.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import { standsAt, textOf, type Text } from '../validate/known-text.js';
import type { DecisionReply, Question } from './decision-writer.js';
import type { Frame } from './frame.js';

/** Questions that are remembered. Callers ask with a few rules again and again. */
const MAX_KNOWN = 16;
/** Longest part of a question that is remembered, in bytes. */
const MAX_KNOWN_BYTES = 512;
const CR = 0x0d;
const LF = 0x0a;
const ZERO = 0x30;
const MAX_DIGITS = 3;

/** A question without its client: the bytes around it, and what they mean. */
interface Known {
  /** From the beginning of the command to the `$` of the client. */
  readonly before: Text;
  /** Everything behind the client, beginning with CRLF. */
  readonly after: Text;
  readonly params: CheckParams;
  readonly reply: DecisionReply;
}

interface KnownQuestions {
  /** Returns the known question at `at`; `undefined` if there is none. `place` then holds its places. */
  recall(bytes: Buffer, view: DataView, at: number): Known | undefined;
  readonly place: { readonly idStart: number; readonly idEnd: number; readonly end: number };
  /** Remembers a question, if its meaning does not depend on the client. */
  remember(bytes: Buffer, at: number, frame: Frame, question: Question): void;
}

/**
 * Most commands of a connection are equal apart from the client. The general way reads such a command once. Then its
 * bytes are recognised in the commands that follow, without a string or an object. A test compares both ways.
 */
export function createKnownQuestions(): KnownQuestions {
  /** The last used comes first. */
  const known: Known[] = [];
  const place = { idStart: 0, idEnd: 0, end: 0 };

  function isAt({ before, after }: Known, bytes: Buffer, view: DataView, at: number): boolean {
    if (!standsAt(view, at, before)) return false;
    let next = at + before.length;
    let length = 0;
    for (let digits = 0; digits < MAX_DIGITS; digits += 1, next += 1) {
      const digit = bytes[next]! - ZERO;
      if (!(digit >= 0 && digit <= 9) || (digits > 0 && length === 0)) break;
      length = 10 * length + digit;
    }
    if (length === 0 || length > MAX_CLIENT_ID_BYTES || bytes[next] !== CR || bytes[next + 1] !== LF) return false;
    const idStart = next + 2;
    const idEnd = idStart + length;
    if (!standsAt(view, idEnd, after) || !isPlain(bytes, idStart, idEnd)) return false;
    place.idStart = idStart;
    place.idEnd = idEnd;
    place.end = idEnd + after.length;
    return true;
  }

  return {
    place,
    recall(bytes, view, at) {
      for (let i = 0; i < known.length; i += 1) {
        const one = known[i]!;
        if (!isAt(one, bytes, view, at)) continue;
        if (i > 0) {
          known.splice(i, 1);
          known.unshift(one);
        }
        return one;
      }
      return undefined;
    },
    remember(bytes, at, frame, { check, reply }) {
      const { requestId, reservation, terms, rules, cost, peek, replicated } = check;
      if (frame.isLine || requestId !== undefined || reservation !== undefined || terms !== undefined) return;
      const [idStart, idEnd] = [frame.starts[1]!, frame.ends[1]!];
      if (!isPlain(bytes, idStart, idEnd) || frame.end - at > MAX_KNOWN_BYTES) return;
      const dollar = bytes.lastIndexOf('$', idStart - 1);
      const before = textOf(bytes.subarray(at, dollar + 1));
      const after = textOf(bytes.subarray(idEnd, frame.end));
      const params = { rules, cost, peek, replicated, reservation, terms };
      known.unshift({ before, after, params, reply });
      if (known.length > MAX_KNOWN) known.pop();
    },
  };
}

/** Whether the bytes are printable ASCII, so that they are the same text in each encoding. */
function isPlain(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) if (bytes[at]! < 0x20 || bytes[at]! > 0x7e) return false;
  return true;
}

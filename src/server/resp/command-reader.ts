import { isUtf8 } from 'node:buffer';
import type { Policies } from '../../policy/active-policies.js';
import { CheckBatch } from '../../limits/decide/check-batch.js';
import { TokenringError } from '../../lib/error.js';
import { MAX_BATCH } from '../../limits/request/request.js';
import { allowReply, type DecisionReply } from './decision-writer.js';
import { createFrameReader } from './frame.js';
import { createKnownQuestions } from './known-questions.js';
import { QUESTIONS } from './questions.js';
import { ErrorText } from './value.js';

/** Questions of a batch that the general way reads: 1 ms at most. */
const MAX_GENERAL = 64;
/** A usual question is longer. A chunk of shorter ones is decided as several batches. */
const QUESTION_BYTES = 40;

/** The questions of several commands in order. */
interface Questions {
  readonly kind: 'questions';
  readonly batch: CheckBatch;
  /** The form of each answer, or the answer itself where the question is refused. */
  readonly replies: readonly (DecisionReply | ErrorText)[];
  /** How many of them took the general way, which takes longer. */
  readonly general: number;
}

export type Read =
  | Questions
  /** Another command: its name in capital letters, and its arguments with the name as it was sent. */
  | { readonly kind: 'command'; readonly name: string; readonly args: readonly string[]; readonly isLine: boolean }
  /** `needed`: smallest number of bytes, from the beginning of the command, that may complete it. */
  | { readonly kind: 'incomplete'; readonly needed: number }
  /** A command with bytes that are no text. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  | { readonly kind: 'broken'; readonly text: string };

interface CommandReader {
  /**
   * Reads the commands at `at`: as many questions as there are, or one other command.
   * @param single whether a question is a command like any other
   */
  read(bytes: Buffer, at: number, single?: boolean): Read;
  /** Place behind what was read last. */
  end(): number;
}

/** Takes a place of a batch whose answer is the reply itself. */
const REFUSED = new TokenringError('invalid_request');

export function createCommandReader(policies: Policies): CommandReader {
  const frames = createFrameReader();
  const { frame } = frames;
  const known = createKnownQuestions();
  let end = 0;

  function textsOf(bytes: Buffer): string[] {
    const texts: string[] = [];
    for (let i = 0; i < frame.count; i += 1) texts.push(bytes.toString('utf8', frame.starts[i], frame.ends[i]));
    return texts;
  }

  /** Reads a question in the general way, and adds it to the batch. */
  function addQuestion(bytes: Buffer, at: number, name: string, batch: CheckBatch): DecisionReply | ErrorText {
    try {
      if (!isUtf8(bytes.subarray(at, frame.end))) throw notUtf8();
      const question = QUESTIONS.get(name)!(textsOf(bytes), policies);
      if (question instanceof ErrorText) {
        batch.addError(REFUSED);
        return question;
      }
      batch.add(question.check);
      known.remember(bytes, at, frame, question);
      return question.reply;
    } catch (error) {
      if (!(error instanceof TokenringError)) throw error;
      batch.addError(error);
      return allowReply;
    }
  }

  function other(bytes: Buffer, at: number, name: string): Read {
    end = frame.end;
    if (!isUtf8(bytes.subarray(at, end))) return { kind: 'refused', error: notUtf8() };
    return { kind: 'command', name, args: textsOf(bytes), isLine: frame.isLine };
  }

  function read(bytes: Buffer, from: number, single = false): Read {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const capacity = Math.min(MAX_BATCH, Math.ceil((bytes.length - from) / QUESTION_BYTES));
    const mayKnow = !single && !policies.listsClients();
    const replies: (DecisionReply | ErrorText)[] = [];
    let batch: CheckBatch | undefined;
    let general = 0;
    let at = from;
    let last: Read | undefined;
    while (last === undefined && replies.length < capacity && general < MAX_GENERAL && at < bytes.length) {
      const question = mayKnow ? known.recall(bytes, view, at) : undefined;
      if (question !== undefined) {
        const { idStart, idEnd } = known.place;
        (batch ??= new CheckBatch(bytes)).addBytes(idStart, idEnd, question.params);
        replies.push(question.reply);
        at = known.place.end;
        continue;
      }
      const done = frames.read(bytes, at);
      if (done === 'incomplete') last = { kind: 'incomplete', needed: frame.needed };
      else if (done !== 'complete') last = { kind: 'broken', text: done.broken };
      else if (frame.count > 0) {
        const name = bytes.toString('latin1', frame.starts[0], frame.ends[0]).toUpperCase();
        if (!single && QUESTIONS.has(name)) {
          replies.push(addQuestion(bytes, at, name, (batch ??= new CheckBatch(bytes))));
          general += 1;
        } else if (batch === undefined) return other(bytes, at, name);
        else break;
      }
      if (done === 'complete') at = frame.end;
    }
    end = at;
    if (batch !== undefined) return { kind: 'questions', batch, replies, general };
    return last ?? { kind: 'incomplete', needed: 1 };
  }

  return {
    read,
    end: () => end,
  };
}

function notUtf8(): TokenringError {
  return new TokenringError('invalid_request', { detail: 'the command is not valid; use UTF-8' });
}

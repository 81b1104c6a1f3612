import { isUtf8 } from 'node:buffer';
import type { Policies } from '../../policy/active-policies.js';
import { CheckBatch } from '../../limits/decide/check-batch.js';
import { sharedParams, type CheckParams } from '../../limits/decide/check.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import { TokenringError } from '../../lib/error.js';
import { KnownShapes } from '../../lib/known-shapes.js';
import { MAX_BATCH } from '../../limits/request/request.js';
import { allowReply, type DecisionReply, type CheckCommand } from './decision-writer.js';
import { FrameReader } from './frame.js';
import { CHECK_COMMANDS } from './check-commands.js';
import { ErrorText } from './value.js';

/** Checks of a batch that the general way reads: 1 ms at most. */
const MAX_GENERAL = 64;
/** A usual check is longer. A chunk of shorter ones is decided as several batches. */
const CHECK_BYTES = 40;
/** Shapes of checks that are remembered, and the bytes of one. */
const MAX_SHAPES = 16;
const MAX_SHAPE_BYTES = 512;
const CR = 0x0d;
const LF = 0x0a;
const ZERO = 0x30;
/** Digits of the length of a client id. */
const MAX_DIGITS = 3;

/** The checks of several commands in order. */
interface CheckCommands {
  readonly kind: 'checks';
  readonly batch: CheckBatch;
  /** The form of each answer, or the answer itself where the check is refused. */
  readonly replies: readonly (DecisionReply | ErrorText)[];
  /** How many of them took the general way, which takes longer. */
  readonly general: number;
}

export type Read =
  | CheckCommands
  /** Another command: its name in capital letters, and its arguments with the name as it was sent. */
  | { readonly kind: 'command'; readonly name: string; readonly args: readonly string[]; readonly isLine: boolean }
  /** `needed`: smallest number of bytes, from the beginning of the command, that may complete it. */
  | { readonly kind: 'incomplete'; readonly needed: number }
  /** A command with bytes that are no text. */
  | { readonly kind: 'refused'; readonly error: TokenringError }
  | { readonly kind: 'broken'; readonly text: string };

/** The meaning of a check, apart from its client. */
interface CheckShape {
  readonly params: CheckParams;
  readonly reply: DecisionReply;
}

/** The client of a check stands behind its length and CRLF. */
class CheckShapes extends KnownShapes<CheckShape> {
  protected override findId(bytes: Buffer, at: number): boolean {
    let next = at;
    let length = 0;
    for (let digits = 0; digits < MAX_DIGITS; digits += 1, next += 1) {
      const digit = bytes[next]! - ZERO;
      if (!(digit >= 0 && digit <= 9) || (digits > 0 && length === 0)) break;
      length = 10 * length + digit;
    }
    if (length === 0 || length > MAX_CLIENT_ID_BYTES || bytes[next] !== CR || bytes[next + 1] !== LF) return false;
    this.idStart = next + 2;
    this.idEnd = this.idStart + length;
    return isPlain(bytes, this.idStart, this.idEnd);
  }
}

/** Takes a place of a batch whose answer is the reply itself. */
const REFUSED = new TokenringError('invalid_request');

/**
 * Reads the commands of all connections. Most checks are equal apart from the client, so their shapes are
 * remembered. A test compares both ways.
 */
export class CommandReader {
  /** Place behind what was read last. */
  endAt = 0;
  private readonly frame = new FrameReader();
  private readonly shapes = new CheckShapes(MAX_SHAPES, MAX_SHAPE_BYTES);

  constructor(private readonly policies: Policies) {}

  /**
   * Reads the commands at `from`: as many checks as there are, or one other command.
   * @param single whether a check is a command like any other
   */
  read(bytes: Buffer, from: number, single = false): Read {
    const { frame, shapes } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const capacity = Math.min(MAX_BATCH, Math.ceil((bytes.length - from) / CHECK_BYTES));
    const mayKnow = !single && !this.policies.listsClients();
    const replies: (DecisionReply | ErrorText)[] = [];
    let batch: CheckBatch | undefined;
    let general = 0;
    let at = from;
    let last: Read | undefined;
    while (last === undefined && replies.length < capacity && general < MAX_GENERAL && at < bytes.length) {
      const shape = mayKnow ? shapes.find(bytes, view, at) : undefined;
      if (shape !== undefined) {
        (batch ??= new CheckBatch(bytes)).addBytes(shapes.idStart, shapes.idEnd, shape.params);
        replies.push(shape.reply);
        at = shapes.end;
        continue;
      }
      const done = frame.read(bytes, at);
      if (done === 'incomplete') last = { kind: 'incomplete', needed: frame.needed };
      else if (done !== 'complete') last = { kind: 'broken', text: done.broken };
      else if (frame.count > 0) {
        const name = bytes.toString('latin1', frame.starts[0], frame.ends[0]).toUpperCase();
        if (!single && CHECK_COMMANDS.has(name)) {
          replies.push(this.addCheck(bytes, at, name, (batch ??= new CheckBatch(bytes))));
          general += 1;
        } else if (batch === undefined) return this.readOther(bytes, at, name);
        else break;
      }
      if (done === 'complete') at = frame.end;
    }
    this.endAt = at;
    if (batch !== undefined) return { kind: 'checks', batch, replies, general };
    return last ?? { kind: 'incomplete', needed: 1 };
  }

  /** Reads a check in the general way, and adds it to the batch. */
  private addCheck(bytes: Buffer, at: number, name: string, batch: CheckBatch): DecisionReply | ErrorText {
    try {
      if (!isUtf8(bytes.subarray(at, this.frame.end))) throw notUtf8();
      const command = CHECK_COMMANDS.get(name)!(this.texts(bytes), this.policies);
      if (command instanceof ErrorText) {
        batch.addError(REFUSED);
        return command;
      }
      batch.add(command.check);
      this.remember(bytes, at, command);
      return command.reply;
    } catch (error) {
      if (!(error instanceof TokenringError)) throw error;
      batch.addError(error);
      return allowReply;
    }
  }

  private readOther(bytes: Buffer, at: number, name: string): Read {
    const { end, isLine } = this.frame;
    this.endAt = end;
    if (!isUtf8(bytes.subarray(at, end))) return { kind: 'refused', error: notUtf8() };
    return { kind: 'command', name, args: this.texts(bytes), isLine };
  }

  /** The arguments of the command that was read last. */
  private texts(bytes: Buffer): string[] {
    const { count, starts, ends } = this.frame;
    const texts: string[] = [];
    for (let i = 0; i < count; i += 1) texts.push(bytes.toString('utf8', starts[i], ends[i]));
    return texts;
  }

  /** Remembers the shape of the check at `at`, unless its meaning depends on its client. */
  private remember(bytes: Buffer, at: number, { check, reply }: CheckCommand): void {
    const { isLine, starts, ends, end } = this.frame;
    const params = sharedParams(check);
    if (isLine || params === undefined || check.requestId !== undefined) return;
    const [idStart, idEnd] = [starts[1]!, ends[1]!];
    if (!isPlain(bytes, idStart, idEnd)) return;
    const dollar = bytes.lastIndexOf('$', idStart - 1);
    this.shapes.add(bytes.subarray(at, dollar + 1), bytes.subarray(idEnd, end), { params, reply });
  }
}

/** Whether the bytes are printable ASCII, so that they are the same text in each encoding. */
function isPlain(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) if (!(bytes[at]! >= 0x20 && bytes[at]! <= 0x7e)) return false;
  return true;
}

function notUtf8(): TokenringError {
  return new TokenringError('invalid_request', { detail: 'the command is not valid; use UTF-8' });
}

import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Source } from '../../limits/decide/decision.js';
import { networkOf } from '../../lib/address.js';
import { TokenringError } from '../../lib/error.js';
import type { Steps } from '../../lib/turns.js';
import type { ArrivingBody, ArrivingBytes } from '../edge/arriving.js';
import type { ServerContext } from '../edge/server-context.js';
import { STATUS, statusMessage, statusOf, timeoutMs } from './status.js';

/** Bytes before each message: a flag, and the length. */
export const PREFIX_BYTES = 5;
/** Bound of a message, as of the body of a decision. */
const MAX_MESSAGE_BYTES = 64 * 1024;

/** A call whose message has not arrived in full, or whose answer the caller has not read. */
export interface Call {
  /** Time at which it began. */
  readonly startMs: number;
  /** Time of its answer; 0 before it. A stream of answers sets it with each of them. */
  answeredMs: number;
  arrived: boolean;
  /** Bytes of the answer, until the caller has read it. */
  unreadBytes: number;
  /** Whether the call stays open after its first answer. */
  readonly streams: boolean;
  readonly fail: (error: unknown) => void;
}

export interface Answer {
  /** The message after `PREFIX_BYTES` free bytes. */
  readonly framed: Buffer;
  /** Where the decision comes from; `undefined` if the answer is none. */
  readonly source: Source | 'batch' | undefined;
}

/** The answer side of a call. */
interface Responder {
  readonly send: (answer: Answer) => void;
  /** Calls `stop` when the call ends. */
  readonly onEnd: (stop: () => void) => void;
  readonly fail: (error: TokenringError) => void;
  /** The address or IPv6 /64 of the caller. */
  readonly network: () => string;
}

/** One method of a service. */
export interface Method {
  /** Whether callers need the role `decide`, if the node asks for it. */
  readonly guarded: boolean;
  /** Whether the call stays open after its first answer. */
  readonly streams: boolean;
  /**
   * Answers a message with what it returns, or by calls of `to`.
   * @throws TokenringError which answers the call; also by rejection
   */
  answer(message: Buffer, to: Responder, headers: IncomingHttpHeaders): Answer | Promise<Answer> | undefined;
}

const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc' };
/**
 * `respond` copies these by a spread and sets `endStream`. If that were a new field, V8, in Node 20, would take about 6 µs
 * for it; see docs/decisions.md, "V8".
 */
const RESPOND = { endStream: false, waitForTrailers: true };
const OK_TRAILERS = { 'grpc-status': String(STATUS.ok) };

interface CallDeps {
  readonly context: Pick<
    ServerContext,
    'access' | 'answered' | 'arriving' | 'counters' | 'elapsedMs' | 'failed' | 'turns' | 'admission'
  >;
  /** Why the node answers no decisions now; `undefined` if it does. */
  readonly refusal: () => TokenringError | undefined;
}

/**
 * Reads the message of a call, has the method answer it, and sends its status. Each listener of a stream costs about
 * 0.5 µs, so a call has one for each event.
 * @param startMs time at which the call began
 * @param closed is called with the call and its RST_STREAM code when its stream has closed
 */
export function beginCall(
  { context, refusal }: CallDeps,
  method: Method,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { startMs, closed }: { readonly startMs: number; readonly closed: (call: Call, rstCode: number | undefined) => void },
): Call {
  const { counters } = context;
  const { streams, guarded } = method;
  let ended = false;
  let stop: (() => void) | undefined;
  let deadline: NodeJS.Timeout | undefined;
  let incoming: Incoming | undefined;
  const call: Call = { startMs, answeredMs: 0, arrived: false, unreadBytes: 0, streams, fail };
  if (guarded) counters.inFlight += 1;

  function end(): void {
    ended = true;
    stop?.();
    if (deadline !== undefined) clearTimeout(deadline);
  }

  function fail(error: unknown): void {
    if (ended) return;
    end();
    const problem = guarded ? context.failed(error) : (error as TokenringError);
    sendStatus(stream, statusOf(problem), problem.message);
    call.answeredMs = context.elapsedMs();
  }

  const to: Responder = {
    send({ framed, source }) {
      if (ended) return;
      call.answeredMs = context.elapsedMs();
      if (source !== undefined) context.answered(source, startMs, call.answeredMs);
      framed[0] = 0;
      framed.writeUInt32BE(framed.length - PREFIX_BYTES, 1);
      call.unreadBytes = framed.length;
      if (!stream.headersSent) {
        stream.respond(RESPONSE_HEADERS, RESPOND);
        stream.on('wantTrailers', sendOkTrailers);
      }
      if (streams) return void stream.write(framed, () => read(call));
      end();
      stream.end(framed);
    },
    onEnd(stopped) {
      if (ended) stopped();
      else stop = stopped;
    },
    fail,
    network: () => networkOf(stream.session?.socket.remoteAddress ?? ''),
  };

  function* answering(message: Buffer): Steps<void> {
    if (ended) return;
    call.arrived = true;
    const waitMs = timeoutMs(headers['grpc-timeout']);
    if (waitMs !== undefined && context.elapsedMs() - startMs >= waitMs) throw late();
    const given = method.answer(message, to, headers);
    if (given instanceof Promise) context.admission.wait(given.then(to.send), fail);
    else if (given !== undefined) return to.send(given);
    if (waitMs !== undefined && waitMs < MAX_TIMER_MS) deadline = setTimeout(() => fail(late()), waitMs);
  }

  stream.on('close', () => {
    incoming?.release();
    closed(call, stream.rstCode);
    if (ended) return;
    // The caller has gone. A decision under way stands.
    end();
    if (guarded) counters.inFlight -= 1;
  });
  try {
    if (guarded) {
      const refused = refusal();
      if (refused !== undefined) throw refused;
      context.admission.requirePlace();
      if (context.access.guardsDecisions()) context.access.admit(headers.authorization, 'decide');
    }
  } catch (error) {
    fail(error);
    return call;
  }
  stream.on('data', (chunk: Buffer) => {
    if (ended) return;
    try {
      incoming ??= createIncoming(context.arriving, stream);
      incoming.take(chunk);
    } catch (error) {
      fail(error);
    }
  });
  stream.on('end', () => {
    if (ended) return;
    try {
      if (incoming === undefined) throw unfit('one whole message');
      const message = incoming.end();
      // A connection may send 128 calls at once.
      const later = context.turns.runSteps('decision', answering(message));
      if (later !== undefined) context.admission.wait(later, fail);
    } catch (error) {
      fail(error);
    }
  });
  return call;
}

function sendOkTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(OK_TRAILERS);
}

function read(call: Call): void {
  call.answeredMs = 0;
  call.unreadBytes = 0;
}

/** The longest delay of a timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

function late(): TokenringError {
  return new TokenringError('timeout', { detail: 'the deadline of the caller has passed' });
}

/** The one message of a call, while it arrives. */
interface Incoming {
  /** @throws TokenringError if the bytes belong to no message, or to one that is too large */
  take(chunk: Buffer): void;
  /** @returns the message. @throws TokenringError if it has not arrived in full */
  end(): Buffer;
  /** Gives up the memory of a message that comes in several pieces. */
  release(): void;
}

function createIncoming(arriving: ArrivingBytes, stream: ServerHttp2Stream): Incoming {
  /** The first bytes, while they are fewer than a prefix. */
  let head: Buffer = NO_BYTES;
  let framed: Buffer | undefined;
  let filled = 0;
  let held: ArrivingBody | undefined;

  /** Makes room for the whole message, so that one that comes in crumbs is copied once. */
  function begin(bytes: Buffer): Buffer {
    const length = bytes.readUInt32BE(1);
    if (length > MAX_MESSAGE_BYTES)
      throw new TokenringError('too_large', { expected: `a message of at most ${MAX_MESSAGE_BYTES} bytes` });
    if (bytes.length > PREFIX_BYTES + length) throw unfit('one message');
    if (bytes.length === PREFIX_BYTES + length) return bytes;
    held = arriving.begin(stream.session?.socket.remoteAddress);
    if (!held.add(length)) {
      const detail = 'messages that have not arrived in full take too much memory';
      throw new TokenringError('overloaded', { detail });
    }
    const room = Buffer.allocUnsafeSlow(PREFIX_BYTES + length);
    bytes.copy(room);
    return room;
  }

  function release(): void {
    held?.release();
    held = undefined;
  }

  return {
    take(chunk) {
      if (framed === undefined) {
        head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
        if (head[0] !== 0) throw unfit('a message without compression');
        if (head.length < PREFIX_BYTES) return;
        framed = begin(head);
        filled = head.length;
        return;
      }
      if (filled + chunk.length > framed.length) throw unfit('one message');
      chunk.copy(framed, filled);
      filled += chunk.length;
    },
    end() {
      if (framed === undefined || filled < framed.length) throw unfit('one whole message');
      release();
      return framed.subarray(PREFIX_BYTES);
    },
    release,
  };
}

const NO_BYTES = Buffer.alloc(0);

function unfit(expected: string): TokenringError {
  return new TokenringError('invalid_request', { field: 'message', expected });
}

/** Ends a call with a status. */
export function sendStatus(stream: ServerHttp2Stream, code: number, message: string): void {
  if (stream.destroyed || stream.closed) return;
  const trailers = { 'grpc-status': String(code), 'grpc-message': statusMessage(message) };
  if (stream.headersSent) {
    stream.removeAllListeners('wantTrailers');
    stream.once('wantTrailers', () => stream.sendTrailers(trailers));
    stream.end();
    return;
  }
  stream.respond(Object.assign({}, RESPONSE_HEADERS, trailers), { endStream: true });
  // The caller may still be sending. The node does not read that.
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
}

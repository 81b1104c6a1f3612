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
/** The longest delay of a timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const NO_BYTES = Buffer.alloc(0);

/** One method of a service. */
export interface Method {
  /** Whether callers need the role `decide`, if the node asks for it. */
  readonly guarded: boolean;
  /** Whether the call stays open after its first answer. */
  readonly streams: boolean;
  /**
   * Answers a message by calls of `call`.
   * @returns a promise if the answer comes later, unless the call streams
   * @throws TokenringError which answers the call; also by rejection
   */
  answer(message: Buffer, call: Call): Promise<void> | undefined;
}

const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc' };
/**
 * `respond` copies these by a spread and sets `endStream`. If that were a new field, V8, in Node 20, would take about 6 µs
 * for it; see docs/decisions.md, "V8".
 */
const RESPOND = { endStream: false, waitForTrailers: true };
const OK_TRAILERS = { 'grpc-status': String(STATUS.ok) };

/**
 * A call. It reads the message, has the method answer it, and sends its status. Each listener of a stream costs about
 * 0.5 µs, so a call has one for each event.
 */
export class Call {
  /** Time of its answer; 0 before it. A stream of answers sets it with each of them. */
  answeredMs = 0;
  /** Whether its message has arrived in full. */
  arrived = false;
  /** Bytes of the answer, until the caller has read it. */
  unreadBytes = 0;
  private hasEnded = false;
  private stop: (() => void) | undefined = undefined;
  private deadline: NodeJS.Timeout | undefined = undefined;
  private readonly incoming: ArrivingMessage;

  /**
   * Begins the call.
   * @param startMs time at which it began
   * @param closed is called with the call and its RST_STREAM code when its stream has closed
   */
  constructor(
    private readonly context: ServerContext,
    readonly method: Method,
    private readonly stream: ServerHttp2Stream,
    readonly headers: IncomingHttpHeaders,
    readonly startMs: number,
    closed: (call: Call, rstCode: number | undefined) => void,
  ) {
    this.incoming = new ArrivingMessage(context.arriving, stream);
    if (method.guarded) context.counters.inFlight += 1;
    stream.on('close', () => {
      this.incoming.release();
      closed(this, stream.rstCode);
      if (this.hasEnded) return;
      // The caller has gone. A decision under way stands.
      this.end();
      if (method.guarded) context.counters.inFlight -= 1;
    });
    try {
      if (method.guarded) this.admit();
    } catch (error) {
      this.fail(error);
      return;
    }
    stream.on('data', this.received);
    stream.on('end', this.complete);
  }

  /** The address or IPv6 /64 of the caller. */
  get network(): string {
    return networkOf(this.stream.session?.socket.remoteAddress ?? '');
  }

  /** Calls `stop` when the call ends. */
  onEnd(stop: () => void): void {
    if (this.hasEnded) stop();
    else this.stop = stop;
  }

  /**
   * Sends an answer.
   * @param framed the message after `PREFIX_BYTES` free bytes
   * @param source where the decision comes from; `undefined` if the answer is none
   */
  send(framed: Buffer, source: Source | 'batch' | undefined): void {
    if (this.hasEnded) return;
    const { stream, context } = this;
    this.answeredMs = context.elapsedMs();
    if (source !== undefined) context.answered(source, this.startMs, this.answeredMs);
    framed[0] = 0;
    framed.writeUInt32BE(framed.length - PREFIX_BYTES, 1);
    this.unreadBytes = framed.length;
    if (!stream.headersSent) {
      stream.respond(RESPONSE_HEADERS, RESPOND);
      stream.on('wantTrailers', sendOkTrailers);
    }
    if (this.method.streams) return void stream.write(framed, this.wasRead);
    this.end();
    stream.end(framed);
  }

  /** Ends the call with the status of an error. */
  readonly fail = (error: unknown): void => {
    if (this.hasEnded) return;
    this.end();
    const problem = this.method.guarded ? this.context.failed(error) : (error as TokenringError);
    sendStatus(this.stream, statusOf(problem), problem.message);
    this.answeredMs = this.context.elapsedMs();
  };

  private admit(): void {
    this.context.requireReady();
    if (this.context.access.guardsDecisions()) this.context.access.authorize(this.headers.authorization, 'decide');
  }

  private readonly received = (chunk: Buffer): void => {
    if (this.hasEnded) return;
    try {
      this.incoming.take(chunk);
    } catch (error) {
      this.fail(error);
    }
  };

  private readonly complete = (): void => {
    const { context } = this;
    if (this.hasEnded) return;
    context.answer(() => {
      const message = this.incoming.end();
      // A connection may send 128 calls at once.
      return context.turns.runSteps('decision', this.answering(message));
    }, this.fail);
  };

  private *answering(message: Buffer): Steps<void> {
    const { context, startMs } = this;
    if (this.hasEnded) return;
    this.arrived = true;
    const waitMs = timeoutMs(this.headers['grpc-timeout']);
    if (waitMs !== undefined && context.elapsedMs() - startMs >= waitMs) throw late();
    const later = this.method.answer(message, this);
    if (later !== undefined) context.admission.wait(later, this.fail);
    else if (!this.method.streams) return;
    if (waitMs !== undefined && waitMs < MAX_TIMER_MS) this.deadline = setTimeout(() => this.fail(late()), waitMs);
  }

  private end(): void {
    this.hasEnded = true;
    this.stop?.();
    if (this.deadline !== undefined) clearTimeout(this.deadline);
  }

  private readonly wasRead = (): void => {
    this.answeredMs = 0;
    this.unreadBytes = 0;
  };
}

function sendOkTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(OK_TRAILERS);
}

function late(): TokenringError {
  return new TokenringError('timeout', { detail: 'the deadline of the caller has passed' });
}

/** The one message of a call, while it arrives. */
class ArrivingMessage {
  /** The first bytes, while they are fewer than a prefix. */
  private head: Buffer = NO_BYTES;
  private framed: Buffer | undefined = undefined;
  private filled = 0;
  private memory: ArrivingBody | undefined = undefined;

  constructor(
    private readonly arriving: ArrivingBytes,
    private readonly stream: ServerHttp2Stream,
  ) {}

  /** @throws TokenringError if the bytes belong to no message, or to one that is too large */
  take(chunk: Buffer): void {
    if (this.framed === undefined) {
      const head = this.head.length === 0 ? chunk : Buffer.concat([this.head, chunk]);
      this.head = head;
      if (head[0] !== 0) throw unfit('a message without compression');
      if (head.length < PREFIX_BYTES) return;
      this.framed = this.begin(head);
      this.filled = head.length;
      return;
    }
    if (this.filled + chunk.length > this.framed.length) throw unfit('one message');
    chunk.copy(this.framed, this.filled);
    this.filled += chunk.length;
  }

  /** @returns the message. @throws TokenringError if it has not arrived in full */
  end(): Buffer {
    if (this.framed === undefined || this.filled < this.framed.length) throw unfit('one whole message');
    this.release();
    return this.framed.subarray(PREFIX_BYTES);
  }

  /** Gives up the memory of a message that comes in several pieces. */
  release(): void {
    this.memory?.release();
    this.memory = undefined;
  }

  /** Makes room for the whole message, so that one that comes in crumbs is copied once. */
  private begin(bytes: Buffer): Buffer {
    const length = bytes.readUInt32BE(1);
    if (length > MAX_MESSAGE_BYTES)
      throw new TokenringError('too_large', { expected: `a message of at most ${MAX_MESSAGE_BYTES} bytes` });
    if (bytes.length > PREFIX_BYTES + length) throw unfit('one message');
    if (bytes.length === PREFIX_BYTES + length) return bytes;
    this.memory = this.arriving.begin(this.stream.session?.socket.remoteAddress);
    if (!this.memory.add(length)) {
      const detail = 'messages that have not arrived in full take too much memory';
      throw new TokenringError('overloaded', { detail });
    }
    const room = Buffer.allocUnsafeSlow(PREFIX_BYTES + length);
    bytes.copy(room);
    return room;
  }
}

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

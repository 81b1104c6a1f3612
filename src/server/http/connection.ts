import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TokenringError } from '../../lib/error.js';
import type { ArrivingBody } from '../edge/arriving.js';
import type { Connection, ConnectionState, OpenConnection } from '../edge/connections.js';
import type { Counters } from '../edge/counters.js';
import type { Turns } from '../../lib/turns.js';
import type { ResponseBody } from './decisions/decision-writer.js';
import type { AnswerSink, DecisionHandlers } from './decisions/handlers.js';
import type { Health } from './health.js';
import type { PlainHeads } from './plain-head.js';
import { problemHeaders } from './send.js';

/** Bound of requests of one connection that have no complete answer. No usual client has more than a few. */
const MAX_PIPELINED_OF_CONNECTION = 128;
/** Bound of such requests of all connections, apart from the first of each. One takes about 5 kB. */
const MAX_PIPELINED = 4_096;

/** What the connections of a server share. */
export interface HttpShared {
  /** Handlers of plain requests; `undefined` if node:http reads all requests. */
  readonly direct: DecisionHandlers['direct'];
  readonly heads: PlainHeads;
  readonly health: Health;
  readonly turns: Turns;
  readonly counters: Counters;
  /** The headers of an answer after which the connection stays open. */
  readonly keepAlive: string;
  /** Whether each answer ends its connection. */
  isDraining: boolean;
  /** Requests that have no complete answer, apart from the first of each connection. */
  pipelined: number;
  /** Ends a connection on which no bytes arrived. */
  readonly timedOut: (socket: Socket) => void;
}

/** A request that node:http has read and whose answer is not complete. */
interface PipelinedRequest {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** `undefined` once it has begun. */
  begin: (() => void) | undefined;
  /** Whether it may begin before the answers of earlier requests are complete. */
  readonly isQuick: boolean;
}

/**
 * A connection of HTTP. It answers plain decision requests and health checks straight from the socket. Such a request is
 * one chunk, and `plain-head.ts` knows its whole head. At the first other request, the connection goes to node:http for
 * good, with that request unread. So node:http handles everything unusual: other headers, parts of requests,
 * pipelining, other addresses.
 *
 * Measured on Node 20 with single requests, server and generator each on its own core: node:http takes 14 µs of user
 * time to read one request and write one answer; this takes 3 µs.
 */
export class HttpConnection implements Connection, AnswerSink {
  private isHandedOver = false;
  /** Whether a plain request waits for its answer. */
  private isBusy = false;
  private isHalfClosed = false;
  /** Time at which bytes last came or went, in ms of `performance.now`. */
  private activeAtMs = performance.now();
  /** A further request, or a part of it, that came while a plain one is answered. More stays with the system. */
  private waiting: Buffer | undefined;
  /** The memory of `waiting`. */
  private readonly arriving: ArrivingBody | undefined;
  private readonly requests: PipelinedRequest[] = [];
  /** Bytes that had come when node:http last had nothing to answer. */
  private bytesRead = 0;

  /** @param serve passes the connection to node:http */
  constructor(
    private readonly shared: HttpShared,
    private readonly socket: Socket,
    private readonly open: OpenConnection,
    private readonly serve: () => void,
  ) {
    this.arriving = shared.direct?.arriving.begin(socket.remoteAddress);
    socket.on('close', this.closed);
    if (this.arriving === undefined) {
      this.isHandedOver = true;
      serve();
    } else socket.on('data', this.received).on('drain', this.resume).on('end', this.ended).on('error', this.destroy);
  }

  state(): ConnectionState {
    if (!this.isHandedOver) return this.isBusy ? 'busy' : 'idle';
    const [first] = this.requests;
    if (first !== undefined) return first.req.complete ? 'busy' : 'arriving';
    return this.socket.bytesRead > this.bytesRead ? 'arriving' : 'idle';
  }

  sinceMs(): number {
    return this.activeAtMs;
  }

  unreadBytes(): number {
    let bytes = 0;
    for (let i = 1; i < this.requests.length; i += 1) bytes += this.requests[i]!.res.writableLength;
    return bytes;
  }

  end(reason: 'idle' | 'timeout' | 'draining'): void {
    if (reason === 'timeout') this.shared.timedOut(this.socket);
    else if (reason === 'idle' || this.state() === 'idle') this.socket.destroy();
  }

  /** Makes the last answer that has not begun end the connection. */
  closeAfterAnswer(): void {
    const last = this.requests.at(-1)?.res;
    if (last !== undefined && !last.headersSent) last.shouldKeepAlive = false;
  }

  /**
   * Calls `begin` now or later, in the order of the requests that node:http has read. A request that is not quick begins
   * when all earlier answers of its connection are complete.
   *
   * node:http hands out all requests of a chunk at once, and 64 KiB hold 1,500. Their answers would keep the event loop
   * busy for seconds and take hundreds of MB. And when the connection breaks, node:http does not report the answers
   * after the first, so work begun for them would never end.
   */
  take(req: IncomingMessage, res: ServerResponse, isQuick: boolean, begin: () => void): void {
    const { shared, requests, socket } = this;
    if (socket.destroyed) return;
    if (requests.length > 0) {
      if (requests.length >= MAX_PIPELINED_OF_CONNECTION || shared.pipelined >= MAX_PIPELINED) {
        shared.counters.slowReaders += 1;
        return void socket.destroy();
      }
      shared.pipelined += 1;
    }
    const request = { req, res, begin, isQuick };
    requests.push(request);
    res.once('close', () => this.completed(request));
    const before = requests.at(-2);
    if (before === undefined || (isQuick && before.begin === undefined)) this.beginRequests();
  }

  private beginRequests(): void {
    for (let i = 0; i < this.requests.length; i += 1) {
      const request = this.requests[i]!;
      const { begin } = request;
      if (begin === undefined) continue;
      if (this.socket.destroyed || (i > 0 && !request.isQuick)) return;
      request.begin = undefined;
      begin();
    }
  }

  private completed({ req, res }: PipelinedRequest): void {
    // A connection that has closed has no requests.
    if (this.requests.length === 0) return;
    if (req.complete && isGood(res.statusCode)) this.open.served();
    this.requests.shift();
    this.activeAtMs = performance.now();
    if (this.requests.length === 0) {
      this.bytesRead = this.socket.bytesRead;
      return;
    }
    this.shared.pipelined -= 1;
    // Other connections have their turn first.
    if (this.requests[0]!.begin !== undefined) setImmediate(() => this.beginRequests());
  }

  private readonly closed = (): void => {
    this.arriving?.release();
    this.shared.pipelined -= Math.max(0, this.requests.length - 1);
    this.requests.length = 0;
  };

  private readonly destroy = (): void => void this.socket.destroy();

  private readonly ended = (): void => {
    this.isHalfClosed = true;
    if (!this.isBusy) this.socket.end();
  };

  private readonly resume = (): void => {
    if (this.waiting === undefined) this.socket.resume();
  };

  private readonly received = (chunk: Buffer): void => {
    if (this.isBusy) {
      this.socket.pause();
      this.waiting = chunk;
      if (!this.arriving!.add(chunk.length)) this.socket.destroy();
      return;
    }
    this.activeAtMs = performance.now();
    if (!this.answer(chunk)) this.handOver(chunk);
  };

  /** @returns whether the request is answered now or later */
  private answer(chunk: Buffer): boolean {
    const { heads, direct, turns, health } = this.shared;
    const head = heads.of(chunk);
    if (head === undefined || head.bytes + head.bodyBytes !== chunk.length) return false;
    this.isBusy = true;
    if (head.kind === '/healthz' || head.kind === '/readyz') {
      const { kind } = head;
      turns.run('health', () => {
        const { status, headers, body } = health.answer(kind);
        this.write(status, headers, body, 'utf8');
      });
      return true;
    }
    if (direct![head.kind](chunk.subarray(head.bytes), this, head.trace)) return true;
    this.isBusy = false;
    return false;
  }

  readonly send = (status: number, body: string | ResponseBody, headers: readonly string[]): void => {
    const lengths = ['Content-Type', 'application/json', 'Content-Length', String(body.length)];
    this.write(status, [...lengths, ...headers], body, 'latin1');
  };

  readonly fail = (problem: TokenringError): void => {
    // An error is no decision, so it waits for its turn.
    this.shared.turns.run('other', () => {
      const body = JSON.stringify(problem);
      this.write(problem.status, problemHeaders(problem, body), body, 'utf8');
    });
  };

  private write(
    status: number,
    headers: readonly string[],
    body: string | ResponseBody,
    encoding: 'latin1' | 'utf8',
  ): void {
    const { socket, shared } = this;
    this.isBusy = false;
    this.activeAtMs = performance.now();
    if (isGood(status)) this.open.served();
    if (socket.destroyed) return;
    let lines = '';
    for (let i = 0; i < headers.length; i += 2) lines += `${headers[i]}: ${headers[i + 1]}\r\n`;
    const last = shared.isDraining || this.isHalfClosed;
    const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines}Date: ${dateNow()}\r\n${last ? 'Connection: close\r\n' : shared.keepAlive}\r\n`;
    if (typeof body === 'string') this.writeAll(head + body, encoding);
    else body.send(head, this.writeAll);
    if (last) socket.end();
    else if (this.waiting !== undefined) this.next(this.waiting);
  }

  /** @returns whether the system has copied all bytes already */
  private readonly writeAll = (bytes: Buffer | string, encoding?: 'latin1' | 'utf8'): boolean => {
    if (!this.socket.write(bytes, encoding)) this.socket.pause();
    return this.socket.writableLength === 0;
  };

  /** Handles the bytes that arrived while the last request was answered. */
  private next(chunk: Buffer): void {
    this.waiting = undefined;
    this.arriving!.release();
    if (!this.socket.writableNeedDrain) this.socket.resume();
    this.received(chunk);
  }

  private handOver(chunk: Buffer): void {
    const { socket } = this;
    this.isHandedOver = true;
    this.bytesRead = socket.bytesRead - chunk.length;
    socket.off('data', this.received).off('drain', this.resume).off('end', this.ended).off('error', this.destroy);
    socket.pause();
    socket.unshift(chunk);
    this.serve();
    socket.resume();
  }
}

/** Whether an answer of this status means that the request was no mistake. */
function isGood(status: number): boolean {
  return status < 400 || status === 429;
}

let dateAtS = 0;
let date = '';

/** Returns the value of the `Date` header, which changes once a second. */
function dateNow(): string {
  const seconds = Math.floor(Date.now() / 1000);
  if (seconds !== dateAtS) {
    dateAtS = seconds;
    date = new Date(seconds * 1000).toUTCString();
  }
  return date;
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import { CheckBatch, type BatchItem } from '../../../limits/decide/check-batch.js';
import { rateLimitHeaders } from '../../../limits/request/rate-limit-headers.js';
import { traceOf, type TraceContext } from '../../../lib/trace-context.js';
import { MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../../../limits/request/request.js';
import { JsonDecisionWriter, type ResponseBody } from './decision-writer.js';
import type { ArrivingBytes } from '../../edge/arriving.js';
import type { ServerContext } from '../../edge/server-context.js';
import { readJsonBody } from '../body.js';
import { GATEWAYS, readGatewayCheck, type Gateway, type GatewayName } from './gateway.js';
import { parseJson } from '../../validate/json.js';
import { TokenringError } from '../../../lib/error.js';
import { BatchReader } from '../../validate/batch-reader.js';
import { readCheck } from '../../validate/request.js';
import { sendAsciiJson, sendProblem, closingIfUnread } from '../send.js';

/** Bytes of an item of a batch that is parsed, but not read. */
const UNREAD_ITEM_BYTES = 1_000;

export type Handler = (req: IncomingMessage, res: ServerResponse) => void;

/** Receiver of an answer. Called once, at once or later. Does nothing when the connection is gone. */
export interface AnswerSink {
  readonly send: (status: number, body: ResponseBody, headers: readonly string[]) => void;
  readonly fail: (problem: TokenringError) => void;
}

/**
 * Decides on a complete body. No other part of the request matters.
 * @returns false when a `Handler` must answer the request: nothing was consumed, and the sink is not used
 */
type DirectHandler = (body: Buffer, sink: AnswerSink, trace: TraceContext | undefined) => boolean;

export interface DecisionHandlers {
  readonly allow: Handler;
  readonly batch: Handler;
  /** `/v1/check/…`. The handlers do not read the body or the part of the address that the gateway's caller chose. */
  readonly check: Readonly<Record<GatewayName, Handler>>;
  /** The same decisions without node:http's request and response; see `connection.ts`. */
  readonly direct?: Readonly<Record<'allow' | 'batch', DirectHandler>> & {
    /** The memory for requests that wait while one is answered, shared with bodies that are arriving. */
    readonly arriving: ArrivingBytes;
  };
}

/**
 * Reads a body, and answers it.
 * @returns a promise if the answer comes later
 * @throws TokenringError in place of an answer, also by rejection; if the body is not valid, nothing was consumed
 */
type Endpoint = (
  body: Buffer,
  send: Send,
  startMs: number,
  trace: TraceContext | undefined,
) => Promise<void> | undefined;
type Send = AnswerSink['send'];
type Fail = (error: unknown) => void;

/**
 * `POST /v1/allow`, `POST /v1/allow/batch`, and `/v1/check/…` as plain node:http handlers. The server calls them
 * without Express, whose router and parser cost six times the decision. The Express app mounts the same handlers.
 */
export class DecisionEndpoints implements DecisionHandlers {
  readonly check: DecisionHandlers['check'];
  readonly direct: NonNullable<DecisionHandlers['direct']>;
  private readonly writer: JsonDecisionWriter;
  private readonly batchReader: BatchReader;

  constructor(
    private readonly context: ServerContext,
    private readonly deniedStatus: 200 | 429,
  ) {
    this.writer = new JsonDecisionWriter(context.counters);
    this.batchReader = new BatchReader(context.policies);
    this.check = {
      nginx: (req, res) => this.receiveHeaders(req, res, GATEWAYS.nginx),
      forwardAuth: (req, res) => this.receiveHeaders(req, res, GATEWAYS.forwardAuth),
      envoy: (req, res) => this.receiveHeaders(req, res, GATEWAYS.envoy),
    };
    this.direct = {
      arriving: context.arriving,
      allow: (body, sink, trace) => this.receiveDirectly(this.answerOne, body, sink, trace),
      batch: (body, sink, trace) => this.receiveDirectly(this.answerMany, body, sink, trace),
    };
  }

  readonly allow: Handler = (req, res) => this.receive(this.answerOne, MAX_REQUEST_BYTES, req, res);
  readonly batch: Handler = (req, res) => this.receive(this.answerMany, MAX_BATCH_BYTES, req, res);

  private readonly answerOne: Endpoint = (body, send, startMs, trace) => {
    const batch = CheckBatch.of([readCheck(parseJson(body), this.context.policies)]);
    return this.decideOne(batch, trace, startMs, (item) => {
      const status = item.allowed ? 200 : this.deniedStatus;
      send(status, this.writer.one(item), rateLimitHeaders(item.params, item));
    });
  };

  /** A bad item gets its own problem and does not affect the others. */
  private readonly answerMany: Endpoint = (body, send, startMs, trace) => {
    const { admission, turns } = this.context;
    const unread = this.batchReader.begin(body);
    admission.requireMemory('batch');
    const read = turns.runSteps('decision', unread.reading());
    const decide = (): Promise<void> | undefined => this.decideMany(unread.batch, trace, send, startMs);
    return read === undefined ? decide() : admission.charge(UNREAD_ITEM_BYTES * unread.maxItems, read).then(decide);
  };

  /** Answers a request that node:http reads. */
  private receive(endpoint: Endpoint, maxBytes: number, req: IncomingMessage, res: ServerResponse): void {
    const { context } = this;
    const startMs = context.elapsedMs();
    const fail = this.accept(req, res, 'POST');
    if (fail === undefined) return;
    const send: Send = (status, body, headers) => sendAsciiJson(res, status, body.text(), headers);
    readJsonBody(
      req,
      maxBytes,
      (body) => context.answer(() => endpoint(body, send, startMs, traceOf(req.headers)), fail),
      fail,
      () => (context.counters.inFlight -= 1),
      context.arriving,
    );
  }

  /** Answers a request that `HttpConnection` has read. A request that may be refused is left to `receive`. */
  private receiveDirectly(
    endpoint: Endpoint,
    body: Buffer,
    sink: AnswerSink,
    trace: TraceContext | undefined,
  ): boolean {
    const { context } = this;
    if (context.stage() === 'joining' || context.admission.isFull() || context.access.guardsDecisions()) return false;
    const startMs = context.elapsedMs();
    context.counters.inFlight += 1;
    context.answer(
      () => endpoint(body, sink.send, startMs, trace),
      (error) => sink.fail(context.failed(error)),
    );
    return true;
  }

  private receiveHeaders(req: IncomingMessage, res: ServerResponse, gateway: Gateway): void {
    const { context } = this;
    const startMs = context.elapsedMs();
    const fail = this.accept(req, res, gateway.method, gateway);
    if (fail === undefined) return;
    context.answer(() => {
      const batch = CheckBatch.of([readGatewayCheck(req, context.policies)]);
      const send = (item: BatchItem): void => this.sendToGateway(req, res, gateway, item);
      return this.decideOne(batch, traceOf(req.headers), startMs, send);
    }, fail);
  }

  /**
   * Accepts a request by its headers.
   * @returns the function that answers a failure; `undefined` if the request is refused and answered
   */
  private accept(
    req: IncomingMessage,
    res: ServerResponse,
    method: string | undefined,
    gateway?: Gateway,
  ): Fail | undefined {
    const { context } = this;
    context.counters.inFlight += 1;
    // An error is no decision, so it waits for its turn.
    const fail: Fail = (error) => {
      const problem = context.failed(error);
      context.turns.run('other', () => sendProblem(req, res, problem));
    };
    try {
      context.requireReady();
      if (method !== undefined && req.method !== method && !(method === 'GET' && req.method === 'HEAD'))
        throw new TokenringError('method_not_allowed', { expected: method === 'GET' ? 'GET, HEAD' : method });
      if (context.access.guardsDecisions()) this.admit(req, gateway);
    } catch (error) {
      fail(error);
      return undefined;
    }
    return fail;
  }

  private admit({ headers }: IncomingMessage, gateway: Gateway | undefined): void {
    try {
      this.context.access.authorize(headers.authorization, 'decide');
    } catch (error) {
      if (gateway === undefined || !(error instanceof TokenringError)) throw error;
      // The gateway would show a 401 or 403 to its caller, or read it as a denial.
      throw new TokenringError(
        'gateway_unauthorized',
        { field: error.field, expected: error.expected },
        { cause: error },
      );
    }
  }

  private sendToGateway(req: IncomingMessage, res: ServerResponse, gateway: Gateway, item: BatchItem): void {
    const body = this.writer.figures(item).text();
    const headers = closingIfUnread(req, ['Cache-Control', 'no-store', ...rateLimitHeaders(item.params, item)]);
    const status = item.allowed ? 200 : gateway.deniedStatus;
    if (gateway.showsBody) sendAsciiJson(res, status, body, headers);
    else res.writeHead(status, ['Content-Length', '0', ...headers]).end();
  }

  /** Decides a batch of one check. @throws TokenringError in place of a decision, also by rejection */
  private decideOne(
    batch: CheckBatch,
    trace: TraceContext | undefined,
    startMs: number,
    send: (item: BatchItem) => void,
  ): Promise<void> | undefined {
    const { context } = this;
    batch.traceUnder(trace);
    const item = batch.items[0]!;
    return context.decide(batch, () => {
      if (item.error !== undefined) throw item.error;
      send(item);
      context.answered(item.provenance!.source, startMs);
      return undefined;
    });
  }

  private decideMany(
    batch: CheckBatch,
    trace: TraceContext | undefined,
    send: Send,
    startMs: number,
  ): Promise<void> | undefined {
    const { context } = this;
    batch.traceUnder(trace);
    return context.decide(batch, () => {
      const steps = this.writer.writing(batch, (body) => {
        send(200, body, []);
        context.answered('batch', startMs);
      });
      return context.turns.runSteps('decision', steps);
    });
  }
}

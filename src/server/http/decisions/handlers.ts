import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { batchItemId } from '../../../limits/batch-item-id.js';
import { CheckBatch, type BatchItem } from '../../../limits/decide/check-batch.js';
import { waitingBatchBytes } from '../../../limits/heap-bytes.js';
import { rateLimitHeaders } from '../../../limits/request/rate-limit-headers.js';
import { readTraceContext, type TraceContext } from '../../../lib/trace-context.js';
import { MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../../../limits/request/request.js';
import { AnswerWriter, type AnswerBytes } from './answer-writer.js';
import type { ArrivingBytes } from '../../edge/arriving.js';
import type { ServerContext } from '../../edge/server-context.js';
import { readJsonBody } from '../body.js';
import { GATEWAYS, readGatewayCheck, type Gateway, type GatewayName } from './gateway.js';
import { parseJson } from '../../validate/json.js';
import { TokenringError } from '../../../lib/error.js';
import { createBatchReader, readItems, type BatchItems } from '../../validate/batch-reader.js';
import { readCheck } from '../../validate/request.js';
import { sendAsciiJson, sendProblem, withoutTheRest } from '../send.js';

/** Bytes of an item of a batch that is parsed, but not read. */
const UNREAD_ITEM_BYTES = 1_000;

/** Items of a batch that are decided between two reads of the clock. */
const ITEMS_A_STEP = 16;

export type Handler = (req: IncomingMessage, res: ServerResponse) => void;

/** Receiver of an answer. Called once, at once or later. Does nothing when the connection is gone. */
export interface AnswerSink {
  readonly send: (status: number, body: AnswerBytes, headers: readonly string[]) => void;
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
 * Creates `POST /v1/allow`, `POST /v1/allow/batch`, and `/v1/check/…` as plain node:http handlers. The server calls
 * them without Express, whose router and parser cost six times the decision. The Express app mounts the same handlers.
 */
export function createDecisionHandlers(context: ServerContext, options: { deniedStatus: 200 | 429 }): DecisionHandlers {
  const { limiter, policies, access, counters, elapsedMs, arriving, admission, turns } = context;
  type Send = AnswerSink['send'];
  /** Reads a body, or throws. Consumes nothing. */
  type Read<T> = (body: Buffer) => T;
  /** Answers at once, or when the promise settles. */
  type Respond<T> = (
    asked: T,
    send: Send,
    startMs: number,
    trace: TraceContext | undefined,
  ) => Promise<void> | undefined;

  const gone = (): void => {
    counters.inFlight -= 1;
  };

  type Fail = (error: unknown) => void;

  /**
   * Accepts a request by its headers.
   * @returns the function that answers a failure; `undefined` if the request is refused and answered
   */
  function take(
    req: IncomingMessage,
    res: ServerResponse,
    method: string | undefined,
    gateway?: Gateway,
  ): Fail | undefined {
    counters.inFlight += 1;
    // An error is no decision, so it waits for its turn.
    const fail = (error: unknown): void => {
      const problem = context.failed(error);
      turns.run('other', () => sendProblem(req, res, problem));
    };
    try {
      admission.requirePlace();
      if (method !== undefined && req.method !== method && !(method === 'GET' && req.method === 'HEAD'))
        throw new TokenringError('method_not_allowed', { expected: method === 'GET' ? 'GET, HEAD' : method });
      if (access.guardsDecisions()) admit(req, gateway);
    } catch (error) {
      fail(error);
      return undefined;
    }
    return fail;
  }

  function admit({ headers }: IncomingMessage, gateway: Gateway | undefined): void {
    try {
      access.admit(headers.authorization, 'decide');
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

  /** Counts a request among those that wait for other nodes, until it is answered. */
  function waitFor(later: Promise<void> | undefined, fail: Fail): void {
    if (later !== undefined) admission.wait(later, fail);
  }

  function receive<T>(
    req: IncomingMessage,
    res: ServerResponse,
    maxBytes: number,
    read: Read<T>,
    answer: Respond<T>,
  ): void {
    const startMs = elapsedMs();
    const fail = take(req, res, 'POST');
    if (fail === undefined) return;
    const send: Send = (status, body, headers) => sendAsciiJson(res, status, body.text(), headers);
    readJsonBody(
      req,
      maxBytes,
      (body) => {
        try {
          waitFor(answer(read(body), send, startMs, traceOf(req.headers)), fail);
        } catch (error) {
          fail(error);
        }
      },
      fail,
      gone,
      arriving,
    );
  }

  function receiveDirectly<T>(
    [body, sink, trace]: Parameters<DirectHandler>,
    read: Read<T>,
    answer: Respond<T>,
  ): boolean {
    if (admission.isFull() || access.guardsDecisions()) return false;
    const startMs = elapsedMs();
    counters.inFlight += 1;
    try {
      const later = answer(read(body), sink.send, startMs, trace);
      if (later !== undefined) admission.wait(later, (error) => sink.fail(context.failed(error)));
    } catch (error) {
      sink.fail(context.failed(error));
    }
    return true;
  }

  function receiveHeaders(req: IncomingMessage, res: ServerResponse, gateway: Gateway): void {
    const startMs = elapsedMs();
    const fail = take(req, res, gateway.method, gateway);
    if (fail === undefined) return;
    try {
      const batch = CheckBatch.of([readGatewayCheck(req, policies)]);
      const send = (item: BatchItem): void => sendToGateway(req, res, gateway, item);
      waitFor(decideOne(batch, traceOf(req.headers), startMs, send), fail);
    } catch (error) {
      fail(error);
    }
  }

  function sendToGateway(req: IncomingMessage, res: ServerResponse, gateway: Gateway, item: BatchItem): void {
    const body = writer.figures(item).text();
    const headers = withoutTheRest(req, ['Cache-Control', 'no-store', ...rateLimitHeaders(item.params, item)]);
    const status = item.allowed ? 200 : gateway.deniedStatus;
    if (gateway.showsBody) sendAsciiJson(res, status, body, headers);
    else res.writeHead(status, ['Content-Length', '0', ...headers]).end();
  }

  const writer = new AnswerWriter(counters);

  const readOne: Read<CheckBatch> = (body) => CheckBatch.of([readCheck(parseJson(body), policies)]);

  const answerOne: Respond<CheckBatch> = (batch, send, startMs, trace) =>
    decideOne(batch, trace, startMs, (item) =>
      send(item.allowed ? 200 : options.deniedStatus, writer.one(item), rateLimitHeaders(item.params, item)),
    );

  /** Decides a batch of one check. @throws TokenringError in place of a decision, also by rejection */
  function decideOne(
    batch: CheckBatch,
    trace: TraceContext | undefined,
    startMs: number,
    send: (item: BatchItem) => void,
  ): Promise<void> | undefined {
    admission.requireRoom('check');
    batch.traceUnder(trace);
    const item = batch.items[0]!;
    const finish = (): void => {
      if (item.error !== undefined) throw item.error;
      send(item);
      context.answered(item.origin!.source, startMs);
    };
    const later = limiter.decide(batch);
    if (later !== undefined) return admission.charge(waitingBatchBytes(batch), later.then(finish));
    finish();
    return undefined;
  }

  const batchReader = createBatchReader(policies);

  /** The checks of a batch, or its items, which are still to be parsed and validated. */
  const readMany: Read<CheckBatch | BatchItems> = (body) => batchReader.read(body) ?? readItems(body);

  /** Reads, decides, and writes a batch. A bad item gets its own problem and does not affect the others. */
  const answerBatch: Respond<CheckBatch | BatchItems> = (asked, send, startMs, trace) => {
    admission.requireRoom('batch');
    if (asked instanceof CheckBatch) return decideBatch(asked, trace, send, startMs);
    const batch = new CheckBatch();
    const readSome = (): boolean => {
      // One a step, as an item that is not valid may take a ms.
      const item = asked.items.next();
      if (item.done === true) return true;
      const { batchId } = asked;
      batch.batchId = batchId;
      const itemId = batchId === undefined ? undefined : batchItemId(batchId, batch.size);
      try {
        if (item.value instanceof TokenringError) throw item.value;
        batch.add(readCheck(item.value, policies, itemId));
      } catch (error) {
        if (!(error instanceof TokenringError)) throw error;
        batch.addError(error);
      }
      return false;
    };
    const read = turns.runSteps('decision', readSome);
    const decide = (): Promise<void> | undefined => decideBatch(batch, trace, send, startMs);
    return after(read && admission.charge(UNREAD_ITEM_BYTES * asked.most, read), decide);
  };

  function decideBatch(
    batch: CheckBatch,
    trace: TraceContext | undefined,
    send: Send,
    startMs: number,
  ): Promise<void> | undefined {
    batch.traceUnder(trace);
    const write = (): Promise<void> | undefined => {
      const out = writer.batch();
      let written = 0;
      const writeSome = (): boolean => {
        const from = written;
        written = Math.min(written + ITEMS_A_STEP, batch.size);
        out.write(batch, from, written);
        return written === batch.size;
      };
      return after(turns.runSteps('decision', writeSome), () => {
        send(200, out.end(), []);
        context.answered('batch', startMs);
        return undefined;
      });
    };
    const later = limiter.decide(batch);
    return later === undefined ? write() : admission.charge(waitingBatchBytes(batch), later.then(write));
  }

  return {
    allow: (req, res) => receive(req, res, MAX_REQUEST_BYTES, readOne, answerOne),
    batch: (req, res) => receive(req, res, MAX_BATCH_BYTES, readMany, answerBatch),
    check: {
      nginx: (req, res) => receiveHeaders(req, res, GATEWAYS.nginx),
      forwardAuth: (req, res) => receiveHeaders(req, res, GATEWAYS.forwardAuth),
      envoy: (req, res) => receiveHeaders(req, res, GATEWAYS.envoy),
    },
    direct: {
      arriving,
      allow: (...asked) => receiveDirectly(asked, readOne, answerOne),
      batch: (...asked) => receiveDirectly(asked, readMany, answerBatch),
    },
  };
}

/** Continues at once when there is nothing to wait for. */
function after(first: Promise<void> | undefined, next: () => Promise<void> | undefined): Promise<void> | undefined {
  return first === undefined ? next() : first.then(next);
}

/** The trace of a request, if it has one. */
function traceOf({ traceparent, tracestate }: IncomingHttpHeaders): TraceContext | undefined {
  // node:http joins the values of a repeated header. A repeated traceparent is none.
  if (typeof traceparent !== 'string') return undefined;
  return readTraceContext(traceparent, typeof tracestate === 'string' ? tracestate : undefined);
}

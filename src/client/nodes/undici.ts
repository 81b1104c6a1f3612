import type { Agent, Dispatcher } from 'undici';
import type { ReadClientOptions } from '../options.js';
import { FetchConnections, MAX_ANSWER_BYTES, type Connections, type ExchangeEnds } from './transport.js';

/** Shorter than the node's own 65 s, so that no question meets a connection that the node is closing. */
const KEEP_ALIVE_MS = 60_000;
/** Connections to one node: two for batches, and some for single calls. */
const CONNECTIONS = 6;

type Exchange = Connections['exchange'];

/**
 * Makes connections with undici, which costs less than `fetch` and knows certificates. Where undici is not installed,
 * `fetch` serves, unless there are options for certificates. Then each exchange rejects with what to install.
 */
export class NodeConnections implements Connections {
  private readonly opening: Promise<Connections>;
  private opened: Connections | undefined;

  constructor({ timeoutMs, tls }: Pick<ReadClientOptions, 'timeoutMs' | 'tls'>) {
    // With @tokenring/client, undici is an optional peer dependency.
    this.opening = import('undici').then(
      (undici) =>
        new UndiciConnections(
          new undici.Agent({
            connections: CONNECTIONS,
            connect: { timeout: timeoutMs, ...tls },
            keepAliveTimeout: KEEP_ALIVE_MS,
            headersTimeout: 0,
            bodyTimeout: 0,
          }),
        ),
      () => (tls === undefined ? new FetchConnections() : NO_CONNECTIONS),
    );
    void this.opening.then((connections) => (this.opened = connections));
  }

  exchange(request: Parameters<Exchange>[0], ends: ExchangeEnds): ReturnType<Exchange> {
    if (this.opened !== undefined) return this.opened.exchange(request, ends);
    let broken: Error | undefined;
    let breakOff = (reason: Error): void => void (broken = reason);
    void this.opening.then((connections) => {
      if (broken !== undefined) return ends.failed(broken);
      breakOff = connections.exchange(request, ends);
    });
    return (reason) => breakOff(reason);
  }

  async close(): Promise<void> {
    await (await this.opening).close();
  }
}

const NO_CONNECTIONS: Connections = {
  exchange(_request, { failed }) {
    queueMicrotask(() => failed(new Error('the option `tls` needs undici; run: npm install undici')));
    return () => undefined;
  },
  close: () => Promise.resolve(),
};

class UndiciConnections implements Connections {
  constructor(private readonly agent: Agent) {}

  exchange(request: Parameters<Exchange>[0], ends: ExchangeEnds): ReturnType<Exchange> {
    const reader = new AnswerReader(ends);
    const { origin, method, path, headers, body = null } = request;
    this.agent.dispatch({ origin, method, path, headers, body }, reader);
    return (reason) => reader.breakOff(reason);
  }

  close(): Promise<void> {
    return this.agent.destroy();
  }
}

type AnswerHeaders = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Reads the answer to one request. `agent.request` would make a stream and an abort signal for it, which cost as much as
 * the rest of a small exchange.
 */
class AnswerReader implements Dispatcher.DispatchHandler {
  private controller: Dispatcher.DispatchController | undefined;
  private broken: Error | undefined;
  private status = 0;
  private retryAfter: string | undefined;
  private readonly chunks: Buffer[] = [];
  private bytes = 0;

  constructor(private readonly ends: ExchangeEnds) {}

  breakOff(reason: Error): void {
    this.broken = reason;
    this.controller?.abort(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    if (this.broken !== undefined) controller.abort(this.broken);
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: AnswerHeaders): void {
    this.status = status;
    const retryAfter = headers['retry-after'];
    this.retryAfter = typeof retryAfter === 'string' ? retryAfter : undefined;
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.bytes += chunk.length;
    if (this.bytes <= MAX_ANSWER_BYTES) this.chunks.push(chunk);
    // Closes the connection.
    else controller.abort(new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`));
  }

  onResponseEnd(): void {
    const { status, retryAfter, chunks } = this;
    const text = (chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).toString('utf8');
    this.ends.answered({ status, retryAfter, text });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.ends.failed(error);
  }
}

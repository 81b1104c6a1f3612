import type { Request, RequestHandler, Response } from 'express';
import type { Observer } from '../../../node/observer.js';
import type { Membership } from '../../../membership/membership.js';
import { networkOf } from '../../../lib/address.js';
import { TokenringError } from '../../../lib/error.js';
import type { ServerContext } from '../../edge/server-context.js';
import type { NodeEvent, NodeEvents } from './node-events.js';
import { describeCluster } from './cluster-view.js';
import { statsOf } from './observations.js';
import { Coalescer } from '../coalescer.js';

/** A subscriber costs one line of text a second. */
const MAX_SUBSCRIBERS = 32;
/** Subscribers of one caller: of a token, or without one of an address or IPv6 /64. One tab of a browser is one. */
const MAX_OF_ONE = 8;
/** A subscriber that has not read so much is cut. Samples of 100 members take about 50 kB. */
const MAX_UNSENT_BYTES = 1024 * 1024;
const SAMPLE_MS = 1_000;
/** A browser waits so long before it connects again. */
const RETRY_MS = 1_000;

interface Subscriber {
  readonly req: Request;
  readonly caller: string;
}

/**
 * Answers `/v1/events` with server-sent events: `event` for each event of the node, and `sample` once a second with what
 * `/v1/cluster` and `/v1/stats` answer. A subscriber that comes back with `Last-Event-ID` gets the events in between.
 * All subscribers share one timer and one text; without subscribers, there is neither.
 */
export class EventStream {
  private readonly subscribers = new Map<Response, Subscriber>();
  private readonly firstSamples = new Coalescer<string>(() => performance.now(), SAMPLE_MS);
  private timer: NodeJS.Timeout | undefined;
  private unsubscribe = (): void => undefined;

  constructor(
    private readonly parts: {
      readonly context: Pick<ServerContext, 'access' | 'stage'>;
      readonly membership: Membership;
      readonly observer: Pick<Observer, 'reports'>;
      readonly events: Pick<NodeEvents, 'after' | 'subscribe'>;
    },
  ) {}

  readonly answer: RequestHandler = (req, res) => {
    const caller = this.callerOf(req);
    this.requireMemory(caller);
    const last = Number(req.get('last-event-id') ?? 0);
    if (!Number.isSafeInteger(last) || last < 0)
      throw new TokenringError('invalid_request', { field: 'Last-Event-ID', expected: 'the id of an event' });
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    if (req.method === 'HEAD' || this.isStopping()) return void res.end();
    this.join(res, { req, caller });
    send(res, `retry: ${RETRY_MS}\n\n${this.parts.events.after(last).map(eventText).join('')}`);
    // One that comes again and again must not cost all members a message each time.
    void this.firstSamples
      .get('', () => this.sample())
      .then((text) => {
        if (this.subscribers.has(res)) send(res, text);
      });
  };

  private callerOf(req: Request): string {
    const token = this.parts.context.access.authorize(req.headers.authorization, 'read');
    return token === undefined ? networkOf(req.socket.remoteAddress ?? '') : `token ${token}`;
  }

  private requireMemory(caller: string): void {
    let own = 0;
    for (const other of this.subscribers.values()) if (other.caller === caller) own += 1;
    if (this.subscribers.size >= MAX_SUBSCRIBERS)
      throw new TokenringError('overloaded', { detail: `${MAX_SUBSCRIBERS} callers receive events already` });
    if (own >= MAX_OF_ONE)
      throw new TokenringError('overloaded', { detail: `this caller receives events ${MAX_OF_ONE} times already` });
  }

  private join(res: Response, subscriber: Subscriber): void {
    if (this.subscribers.size === 0) {
      this.unsubscribe = this.parts.events.subscribe((event) => this.sendAll(eventText(event)));
      this.timer = setInterval(() => this.tick(), SAMPLE_MS);
    }
    this.subscribers.set(res, subscriber);
    res.once('close', () => this.leave(res));
  }

  /** After its end, nothing is sent to a subscriber: an answer that is written to then breaks the process. */
  private leave(res: Response): void {
    if (!this.subscribers.delete(res)) return;
    res.end();
    if (this.subscribers.size > 0) return;
    clearInterval(this.timer);
    this.unsubscribe();
  }

  /** The streams of a node that stops end, so that they do not delay it. */
  private isStopping(): boolean {
    return this.parts.context.stage() === 'stopping';
  }

  private tick(): void {
    for (const [res, { req }] of this.subscribers) if (this.isStopping() || !this.mayRead(req)) this.leave(res);
    if (this.subscribers.size > 0) void this.sample().then((text) => this.sendAll(text));
  }

  /** A token may have been withdrawn since the request. */
  private mayRead(req: Request): boolean {
    try {
      this.parts.context.access.authorize(req.headers.authorization, 'read');
      return true;
    } catch {
      return false;
    }
  }

  private async sample(): Promise<string> {
    const stats = await statsOf(this.parts.observer);
    return `event: sample\ndata: ${JSON.stringify({ cluster: describeCluster(this.parts.membership), ...stats })}\n\n`;
  }

  private sendAll(text: string): void {
    for (const res of this.subscribers.keys()) send(res, text);
  }
}

function send(res: Response, text: string): void {
  res.write(text);
  if (res.writableLength > MAX_UNSENT_BYTES) res.destroy();
}

function eventText(event: NodeEvent): string {
  return `id: ${event.id}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`;
}

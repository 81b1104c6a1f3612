import type { Request, RequestHandler, Response } from 'express';
import type { Observer } from '../../../node/observer.js';
import type { Membership } from '../../../membership/membership.js';
import { networkOf } from '../../../lib/address.js';
import { TokenringError } from '../../../lib/error.js';
import type { Access } from '../../edge/access/access.js';
import type { NodeEvent, NodeEvents } from './node-events.js';
import { describeCluster } from './cluster-view.js';
import { statsOf } from './observations.js';
import { SharedAnswers } from '../shared-answers.js';

/** A subscriber costs one line of text a second. */
const MAX_SUBSCRIBERS = 32;
/** Subscribers of one caller: of a token, or without one of an address or IPv6 /64. One tab of a browser is one. */
const MAX_OF_ONE = 8;
/** A subscriber that has not read so much is cut. Samples of 100 members take about 50 kB. */
const MAX_UNSENT_BYTES = 1024 * 1024;
const SAMPLE_MS = 1_000;
/** A browser waits so long before it connects again. */
const RETRY_MS = 1_000;

interface EventStreamDeps {
  readonly membership: Membership;
  readonly observer: Pick<Observer, 'reports'>;
  readonly events: Pick<NodeEvents, 'after' | 'subscribe'>;
  readonly access: Pick<Access, 'admit'>;
  /** Whether this node stops: then the streams end, so that they do not delay it. */
  readonly isStopping: () => boolean;
}

interface Subscriber {
  readonly req: Request;
  readonly caller: string;
}

/**
 * Handles `/v1/events` as server-sent events: `event` for each event of the node, and `sample` once a second with what
 * `/v1/cluster` and `/v1/stats` answer. A subscriber that comes back with `Last-Event-ID` gets the events in between.
 * All subscribers share one timer and one text; without subscribers, there is neither.
 */
export function createEventStream(deps: EventStreamDeps): RequestHandler {
  const { membership, observer, events, access, isStopping } = deps;
  const subscribers = new Map<Response, Subscriber>();
  const firstSamples = new SharedAnswers<string>(() => performance.now(), SAMPLE_MS);
  let timer: NodeJS.Timeout | undefined;
  let unsubscribe = (): void => undefined;

  function send(res: Response, text: string): void {
    res.write(text);
    if (res.writableLength > MAX_UNSENT_BYTES) res.destroy();
  }

  function sendAll(text: string): void {
    for (const res of subscribers.keys()) send(res, text);
  }

  async function sample(): Promise<string> {
    const stats = await statsOf(observer);
    return `event: sample\ndata: ${JSON.stringify({ cluster: describeCluster(membership), ...stats })}\n\n`;
  }

  function callerOf(req: Request): string {
    const token = access.admit(req.headers.authorization, 'read');
    return token === undefined ? networkOf(req.socket.remoteAddress ?? '') : `token ${token}`;
  }

  function requireRoom(caller: string): void {
    let own = 0;
    for (const other of subscribers.values()) if (other.caller === caller) own += 1;
    if (subscribers.size >= MAX_SUBSCRIBERS)
      throw new TokenringError('overloaded', { detail: `${MAX_SUBSCRIBERS} callers receive events already` });
    if (own >= MAX_OF_ONE)
      throw new TokenringError('overloaded', { detail: `this caller receives events ${MAX_OF_ONE} times already` });
  }

  /** A token may have been withdrawn since the request. */
  function mayRead(req: Request): boolean {
    try {
      access.admit(req.headers.authorization, 'read');
      return true;
    } catch {
      return false;
    }
  }

  function tick(): void {
    for (const [res, { req }] of subscribers) if (isStopping() || !mayRead(req)) leave(res);
    if (subscribers.size > 0) void sample().then(sendAll);
  }

  function join(res: Response, subscriber: Subscriber): void {
    if (subscribers.size === 0) {
      unsubscribe = events.subscribe((event) => sendAll(eventText(event)));
      timer = setInterval(tick, SAMPLE_MS);
    }
    subscribers.set(res, subscriber);
    res.once('close', () => leave(res));
  }

  /** After its end, nothing is sent to a subscriber: an answer that is written to then breaks the process. */
  function leave(res: Response): void {
    if (!subscribers.delete(res)) return;
    res.end();
    if (subscribers.size > 0) return;
    clearInterval(timer);
    unsubscribe();
  }

  return (req, res) => {
    const caller = callerOf(req);
    requireRoom(caller);
    const last = Number(req.get('last-event-id') ?? 0);
    if (!Number.isSafeInteger(last) || last < 0)
      throw new TokenringError('invalid_request', { field: 'Last-Event-ID', expected: 'the id of an event' });
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    if (req.method === 'HEAD' || isStopping()) return void res.end();
    join(res, { req, caller });
    send(res, `retry: ${RETRY_MS}\n\n${events.after(last).map(eventText).join('')}`);
    // One that comes again and again must not cost all members a message each time.
    void firstSamples.get('', sample).then((text) => {
      if (subscribers.has(res)) send(res, text);
    });
  };
}

function eventText(event: NodeEvent): string {
  return `id: ${event.id}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`;
}

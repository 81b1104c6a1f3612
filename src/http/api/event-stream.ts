import type { RequestHandler, Response } from 'express';
import type { Observer } from '../../cluster/observer.js';
import type { Membership } from '../../cluster/membership/membership.js';
import { TokenringError } from '../../core/error.js';
import type { NodeEvent, NodeEvents } from './node-events.js';
import { describeCluster } from './cluster-view.js';
import { statsOf } from './observations.js';

/** A subscriber costs one line of text a second. */
const MAX_SUBSCRIBERS = 32;
/** A subscriber that has not read so much is cut. Samples of 100 members take about 50 kB. */
const MAX_UNSENT_BYTES = 1024 * 1024;
const SAMPLE_MS = 1_000;
/** A browser waits so long before it connects again. */
const RETRY_MS = 1_000;

interface EventStreamDeps {
  readonly membership: Membership;
  readonly observer: Pick<Observer, 'reports'>;
  readonly events: Pick<NodeEvents, 'after' | 'subscribe'>;
  /** Whether this node stops: then the streams end, so that they do not delay it. */
  readonly isStopping: () => boolean;
}

/**
 * Handles `/v1/events` as server-sent events: `event` for each event of the node, and `sample` once a second with what
 * `/v1/cluster` and `/v1/stats` answer. A subscriber that comes back with `Last-Event-ID` gets the events in between.
 * All subscribers share one timer and one text; without subscribers, there is neither.
 */
export function createEventStream(deps: EventStreamDeps): RequestHandler {
  const { membership, observer, events, isStopping } = deps;
  const subscribers = new Set<Response>();
  let timer: NodeJS.Timeout | undefined;
  let unsubscribe = (): void => undefined;

  function send(res: Response, text: string): void {
    res.write(text);
    if (res.writableLength > MAX_UNSENT_BYTES) res.destroy();
  }

  function sendAll(text: string): void {
    for (const res of subscribers) send(res, text);
  }

  async function sample(): Promise<void> {
    if (isStopping()) {
      for (const res of subscribers) res.end();
      return;
    }
    const stats = await statsOf(observer);
    sendAll(`event: sample\ndata: ${JSON.stringify({ cluster: describeCluster(membership), ...stats })}\n\n`);
  }

  function begin(): void {
    unsubscribe = events.subscribe((event) => sendAll(eventText(event)));
    timer = setInterval(() => void sample(), SAMPLE_MS);
  }

  function end(): void {
    clearInterval(timer);
    unsubscribe();
  }

  return (req, res) => {
    if (subscribers.size >= MAX_SUBSCRIBERS)
      throw new TokenringError('overloaded', { detail: `${MAX_SUBSCRIBERS} callers receive events already` });
    const last = Number(req.get('last-event-id') ?? 0);
    if (!Number.isSafeInteger(last) || last < 0)
      throw new TokenringError('invalid_request', { field: 'Last-Event-ID', expected: 'the id of an event' });
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    if (subscribers.size === 0) begin();
    subscribers.add(res);
    res.once('close', () => {
      subscribers.delete(res);
      if (subscribers.size === 0) end();
    });
    send(res, `retry: ${RETRY_MS}\n\n${events.after(last).map(eventText).join('')}`);
    void sample();
  };
}

function eventText(event: NodeEvent): string {
  return `id: ${event.id}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`;
}

import type { GroupLeave } from '../cluster/handover/leaver.js';
import type { Discovery } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';
import type { Figures, FromWorker, ToWorker } from './protocol.js';

/** No answer to a scrape by then: the supervisor is gone, or stuck. */
const SCRAPE_WITHIN_MS = 5_000;

/** The supervisor, as its messages come and go. */
interface Channel {
  send(message: FromWorker): void;
  onMessage(handle: (message: ToWorker) => void): void;
}

/** What a node that is one worker of a group knows of the others, and tells them. */
export interface GroupLink {
  /** All workers are in the ring, and none is stopping. */
  readonly isWhole: boolean;
  /** Where peers reach this one. */
  listens(id: NodeId, peerPort: number): void;
  /** The seeds given, and the other workers, once all that start together listen. */
  withSiblings(discovery: Discovery): Discovery;
  /** This one is in the ring, and answers. */
  isUp(): void;
  /** With whom it leaves; known once the supervisor has said that it is to stop. */
  groupLeave(): GroupLeave;
  /** Says that it has left and answered what was in flight; resolves when all have. */
  drained(): Promise<void>;
  /** The metrics of all workers. */
  metrics(): Promise<string>;
}

interface GroupLinkOptions {
  /** This worker's own figures. */
  readonly figures: () => Promise<Figures>;
  readonly onStop: () => void;
}

/** A worker's end of the channel to its supervisor. */
export function createGroupLink(channel: Channel, { figures, onStop }: GroupLinkOptions): GroupLink {
  let whole = false;
  let self: NodeId | undefined;
  let siblings: readonly NodeId[] = [];
  let findSiblings: () => void = () => undefined;
  const siblingsFound = new Promise<void>((resolve) => (findSiblings = resolve));
  let leaving: readonly NodeId[] = [];
  let round = 0;
  const meetings = new Map<number, (ids: readonly NodeId[]) => void>();
  let close: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => (close = resolve));
  let scrapes = 0;
  const scraping = new Map<number, (text: string) => void>();

  channel.onMessage((message) => {
    switch (message.kind) {
      case 'start':
        return;
      case 'siblings':
        siblings = message.ids;
        return findSiblings();
      case 'whole':
        whole = message.whole;
        return;
      case 'stop':
        leaving = message.ids;
        return onStop();
      case 'met':
        meetings.get(message.round)?.(message.ids);
        return void meetings.delete(message.round);
      case 'close':
        return close();
      case 'collect':
        return void figures().then((own) =>
          channel.send({ kind: 'collected', request: message.request, figures: own }),
        );
      case 'metrics':
        scraping.get(message.request)?.(message.text);
        return void scraping.delete(message.request);
    }
  });

  return {
    get isWhole() {
      return whole;
    },
    listens(id, peerPort) {
      self = id;
      channel.send({ kind: 'listening', id, peerPort });
    },
    withSiblings: (discovery) => ({
      async seeds() {
        await siblingsFound;
        return [...new Set([...(await discovery.seeds()), ...siblings.filter((id) => id !== self)])];
      },
    }),
    isUp: () => channel.send({ kind: 'up' }),
    groupLeave: () => ({
      ids: leaving,
      barrier() {
        round += 1;
        const met = new Promise<readonly NodeId[]>((resolve) => meetings.set(round, resolve));
        channel.send({ kind: 'meets', round });
        return met;
      },
    }),
    drained() {
      channel.send({ kind: 'drained' });
      return closed;
    },
    metrics: () =>
      new Promise((resolve, reject) => {
        const request = (scrapes += 1);
        const timer = setTimeout(() => {
          scraping.delete(request);
          reject(new Error('the supervisor does not answer'));
        }, SCRAPE_WITHIN_MS);
        scraping.set(request, (text) => {
          clearTimeout(timer);
          resolve(text);
        });
        channel.send({ kind: 'scrape', request });
      }),
  };
}

import type { GroupLeave } from '../cluster/handover/leaver.js';
import type { Discovery } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';
import type { FromWorker, Stats, ToWorker } from './protocol.js';

/** Time after which a scrape without an answer fails. The supervisor has then ended or hangs. */
const SCRAPE_TIMEOUT_MS = 5_000;

/** Messages to and from the supervisor. */
interface Channel {
  send(message: FromWorker): void;
  onMessage(handle: (message: ToWorker) => void): void;
}

/** A worker's view of its group. */
export interface GroupLink {
  /** Whether all workers are in the ring, and none is stopping. */
  readonly isWhole: boolean;
  /** Announces the address at which peers reach this worker. */
  listens(id: NodeId, peerPort: number): void;
  /** Adds the other workers to the seeds of `discovery`, once all of them listen. */
  withSiblings(discovery: Discovery): Discovery;
  /** Announces that this worker is in the ring, and answers. */
  isUp(): void;
  /** Returns the members that leave together with this worker. Valid once the supervisor has asked it to stop. */
  groupLeave(): GroupLeave;
  /** Announces that this worker has left and has answered its requests in flight. Resolves when all workers have. */
  drained(): Promise<void>;
  /** Returns the metrics of all workers. Rejects when the supervisor does not answer within 5 s. */
  metrics(): Promise<string>;
}

interface GroupLinkOptions {
  /** The metrics of this worker alone. */
  readonly stats: () => Promise<Stats>;
  readonly onStop: () => void;
}

/** A worker's end of the channel to its supervisor. */
export function createGroupLink(channel: Channel, { stats, onStop }: GroupLinkOptions): GroupLink {
  let whole = false;
  let self: NodeId | undefined;
  let siblings: readonly NodeId[] = [];
  const siblingsKnown = gate();
  let leaving: readonly NodeId[] = [];
  let round = 0;
  const barriers = new Map<number, (ids: readonly NodeId[]) => void>();
  const closed = gate();
  let scrapes = 0;
  const scraping = new Map<number, (text: string) => void>();

  channel.onMessage((message) => {
    switch (message.kind) {
      case 'start':
        return;
      case 'siblings':
        siblings = message.ids;
        return siblingsKnown.open();
      case 'whole':
        whole = message.whole;
        return;
      case 'stop':
        leaving = message.ids;
        return onStop();
      case 'barrier-passed':
        barriers.get(message.round)?.(message.ids);
        return void barriers.delete(message.round);
      case 'close':
        return closed.open();
      case 'collect':
        return void stats().then((own) => channel.send({ kind: 'collected', request: message.request, stats: own }));
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
        await siblingsKnown.opened;
        return [...new Set([...(await discovery.seeds()), ...siblings.filter((id) => id !== self)])];
      },
    }),
    isUp: () => channel.send({ kind: 'up' }),
    groupLeave: () => ({
      ids: leaving,
      barrier() {
        round += 1;
        const passed = new Promise<readonly NodeId[]>((resolve) => barriers.set(round, resolve));
        channel.send({ kind: 'at-barrier', round });
        return passed;
      },
    }),
    drained() {
      channel.send({ kind: 'drained' });
      return closed.opened;
    },
    metrics: () =>
      new Promise((resolve, reject) => {
        const request = (scrapes += 1);
        const timer = setTimeout(() => {
          scraping.delete(request);
          reject(new Error('the supervisor does not answer'));
        }, SCRAPE_TIMEOUT_MS);
        scraping.set(request, (text) => {
          clearTimeout(timer);
          resolve(text);
        });
        channel.send({ kind: 'scrape', request });
      }),
  };
}

function gate(): { readonly opened: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open: () => open() };
}

import type { Socket } from 'node:net';
import type { GroupLeave } from '../../node/leaver.js';
import type { Discovery } from '../../membership/discovery.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Protocol, FromWorker, Sibling, Stats, ToWorker, WorkerPorts } from './protocol.js';

/** Time after which a scrape without an answer fails. The supervisor has then ended or hangs. */
const SCRAPE_TIMEOUT_MS = 5_000;

/** Messages to and from the supervisor. */
interface Channel {
  send(message: FromWorker): void;
  /** @param handle is also given the connection that comes with a message */
  onMessage(handle: (message: ToWorker, socket: Socket | undefined) => void): void;
}

/** The connections that the supervisor hands to this worker. */
interface HandedConnections {
  on(event: 'connection', take: (socket: Socket) => void): void;
  /** Takes no more. Those that the worker has continue. */
  close(done: () => void): void;
}

/** A worker's view of its group. */
export interface GroupLink {
  /** Whether all workers are in the ring, and none is stopping. */
  isWhole(): boolean;
  /** The Unix socket on which this worker listens to the others, if there is one. */
  socketPath(): string | undefined;
  /** Returns the Unix socket of another worker; `undefined` for all other members. */
  socketPathOf(id: NodeId): string | undefined;
  /** Announces the address at which peers reach this worker, and its ports. */
  listens(id: NodeId, ports: WorkerPorts): void;
  /** Adds the other workers to the seeds of `discovery`, once all of them listen. */
  withSiblings(discovery: Discovery): Discovery;
  /** Connections of a public port, unless the kernel spreads them. They come after `isUp`. */
  connections(protocol: Protocol): HandedConnections;
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
  let socketPath: string | undefined;
  let siblings: readonly Sibling[] = [];
  const siblingsKnown = gate();
  let leaving: readonly NodeId[] = [];
  let round = 0;
  const barriers = new Map<number, (ids: readonly NodeId[]) => void>();
  const closed = gate();
  /** The protocols that take connections. */
  const takers = new Map<Protocol, (socket: Socket) => void>();
  let scrapes = 0;
  const scraping = new Map<number, (text: string) => void>();

  function receiveConnection(number: number, protocol: Protocol, socket: Socket | undefined): void {
    const take = takers.get(protocol);
    // The caller may have gone. Then there is no socket, and nothing to take.
    if (take === undefined && socket !== undefined) {
      channel.send({ kind: 'returned', number });
      return void socket.destroy();
    }
    // Sent before a byte is read, so that the supervisor can hand a connection that was not taken to another worker.
    channel.send({ kind: 'taken', number });
    if (socket === undefined) return;
    // As node:http sets it for its own connections.
    socket.allowHalfOpen = true;
    take?.(socket);
  }

  channel.onMessage((message, socket) => {
    switch (message.kind) {
      case 'start':
        socketPath = message.socketPath;
        return;
      case 'siblings':
        siblings = message.siblings;
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
      case 'connection':
        return receiveConnection(message.number, message.protocol, socket);
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
    isWhole: () => whole,
    socketPath: () => socketPath,
    socketPathOf: (id) => siblings.find((sibling) => sibling.id === id)?.socketPath,
    listens(id, ports) {
      self = id;
      channel.send({ kind: 'listening', id, ports });
    },
    withSiblings: (discovery) => ({
      async seeds() {
        await siblingsKnown.opened;
        const others = siblings.map(({ id }) => id).filter((id) => id !== self);
        return [...new Set([...(await discovery.seeds()), ...others])];
      },
    }),
    connections: (protocol) => ({
      on: (_event, taker) => void takers.set(protocol, taker),
      close(done) {
        takers.delete(protocol);
        if (takers.size === 0) channel.send({ kind: 'closing' });
        done();
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

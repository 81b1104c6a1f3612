import type { Socket } from 'node:net';
import type { GroupLeave } from '../../node/leaver.js';
import type { Discovery } from '../../membership/discovery.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Protocol, FromWorker, Sibling, Stats, ToWorker, WorkerPorts } from './protocol.js';

/** Time after which a scrape without an answer fails. The supervisor has then ended or hangs. */
const SCRAPE_TIMEOUT_MS = 5_000;

/** The connections that the supervisor hands to this worker. */
interface HandedConnections {
  on(event: 'connection', take: (socket: Socket) => void): void;
  /** Takes no more. Those that the worker has continue. */
  close(done: () => void): void;
}

/** A worker's end of the channel to its supervisor: its view of the group. */
export class GroupLink {
  private whole = false;
  private self: NodeId | undefined;
  private ownSocketPath: string | undefined;
  private siblings: readonly Sibling[] = [];
  private readonly siblingsKnown = new Gate();
  private leaving: readonly NodeId[] = [];
  private round = 0;
  private readonly barriers = new Map<number, (ids: readonly NodeId[]) => void>();
  private readonly closed = new Gate();
  /** The protocols that take connections. */
  private readonly takers = new Map<Protocol, (socket: Socket) => void>();
  private scrapes = 0;
  private readonly scraping = new Map<number, (text: string) => void>();

  /**
   * @param send sends to the supervisor; its messages go to `receive`
   * @param stats returns the metrics of this worker alone
   */
  constructor(
    private readonly send: (message: FromWorker) => void,
    private readonly stats: () => Promise<Stats>,
    private readonly onStop: () => void,
  ) {}

  /** @param socket the connection that comes with the message */
  receive(message: ToWorker, socket: Socket | undefined): void {
    switch (message.kind) {
      case 'start':
        this.ownSocketPath = message.socketPath;
        return;
      case 'siblings':
        this.siblings = message.siblings;
        return this.siblingsKnown.open();
      case 'whole':
        this.whole = message.whole;
        return;
      case 'stop':
        this.leaving = message.ids;
        return this.onStop();
      case 'barrier-passed':
        this.barriers.get(message.round)?.(message.ids);
        return void this.barriers.delete(message.round);
      case 'connection':
        return this.receiveConnection(message.number, message.protocol, socket);
      case 'close':
        return this.closed.open();
      case 'collect':
        return void this.stats().then((own) => this.send({ kind: 'collected', request: message.request, stats: own }));
      case 'metrics':
        this.scraping.get(message.request)?.(message.text);
        return void this.scraping.delete(message.request);
    }
  }

  /** Whether all workers are in the ring, and none is stopping. */
  isWhole(): boolean {
    return this.whole;
  }

  /** The Unix socket on which this worker listens to the others, if there is one. */
  socketPath(): string | undefined {
    return this.ownSocketPath;
  }

  /** Returns the Unix socket of another worker; `undefined` for all other members. */
  socketPathOf(id: NodeId): string | undefined {
    return this.siblings.find((sibling) => sibling.id === id)?.socketPath;
  }

  /** Announces the address at which peers reach this worker, and its ports. */
  listens(id: NodeId, ports: WorkerPorts): void {
    this.self = id;
    this.send({ kind: 'listening', id, ports });
  }

  /** Adds the other workers to the seeds of `discovery`, once all of them listen. */
  withSiblings(discovery: Discovery): Discovery {
    return {
      seeds: async () => {
        await this.siblingsKnown.opened;
        const others = this.siblings.map(({ id }) => id).filter((id) => id !== this.self);
        return [...new Set([...(await discovery.seeds()), ...others])];
      },
    };
  }

  /** Returns the connections of a public port, unless the kernel spreads them. They come after `isUp`. */
  connections(protocol: Protocol): HandedConnections {
    return {
      on: (_event, taker) => void this.takers.set(protocol, taker),
      close: (done) => {
        this.takers.delete(protocol);
        if (this.takers.size === 0) this.send({ kind: 'closing' });
        done();
      },
    };
  }

  /** Announces that this worker is in the ring, and answers. */
  isUp(): void {
    this.send({ kind: 'up' });
  }

  /** Returns the members that leave together with this worker. Valid once the supervisor has asked it to stop. */
  groupLeave(): GroupLeave {
    return {
      ids: this.leaving,
      barrier: () => {
        this.round += 1;
        const passed = new Promise<readonly NodeId[]>((resolve) => this.barriers.set(this.round, resolve));
        this.send({ kind: 'at-barrier', round: this.round });
        return passed;
      },
    };
  }

  /** Announces that this worker has left and has answered its requests in flight. Resolves when all workers have. */
  drained(): Promise<void> {
    this.send({ kind: 'drained' });
    return this.closed.opened;
  }

  /** Returns the metrics of all workers. Rejects when the supervisor does not answer within 5 s. */
  metrics(): Promise<string> {
    return new Promise((resolve, reject) => {
      const request = (this.scrapes += 1);
      const timer = setTimeout(() => {
        this.scraping.delete(request);
        reject(new Error('the supervisor does not answer'));
      }, SCRAPE_TIMEOUT_MS);
      this.scraping.set(request, (text) => {
        clearTimeout(timer);
        resolve(text);
      });
      this.send({ kind: 'scrape', request });
    });
  }

  private receiveConnection(number: number, protocol: Protocol, socket: Socket | undefined): void {
    const take = this.takers.get(protocol);
    // The caller may have gone. Then there is no socket, and nothing to take.
    if (take === undefined && socket !== undefined) {
      this.send({ kind: 'returned', number });
      return void socket.destroy();
    }
    // Sent before a byte is read, so that the supervisor can hand a connection that was not taken to another worker.
    this.send({ kind: 'taken', number });
    if (socket === undefined) return;
    // As node:http sets it for its own connections.
    socket.allowHalfOpen = true;
    take?.(socket);
  }
}

/** A promise that the holder resolves. */
class Gate {
  open: () => void = () => undefined;
  readonly opened = new Promise<void>((resolve) => (this.open = resolve));
}

import type { NodeId, Placed } from '../limits/ring/ring.js';
import { MARK, type BucketTable, type Client } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import { TableWalk } from '../state/table-walk.js';
import { CopiedLeases } from './copied-leases.js';
import { Outbox, type Unsent } from './outbox.js';
import { Placement } from './placement.js';
import { ReplicaQueue } from './replica-queue.js';
import type { Ask } from '../protocol/messages.js';
import type { Clock, Timers } from '../lib/system.js';

/** How often `drained` checks whether the walk of the table has ended. */
const LOOK_INTERVAL_MS = 20;
/** The walk of the table pauses while more copies than this wait for their targets. */
const MAX_PENDING = 20_000;

/** Keeps copies of the clients for which this node decides at the members that would take over. */
export class Replicator {
  private readonly placement: Placement;
  /** Slots of clients that were marked as changed. */
  private changedSlots: number[] = [];
  private readonly joiners = new Map<NodeId, (client: Placed) => boolean>();
  /** During a walk for next owners, returns the member that is to have a whole copy of a client besides the targets. */
  private nextOwnerOf: ((client: Placed) => NodeId | undefined) | undefined;
  private down: readonly NodeId[] = [];
  /**
   * Whether to walk the table once more after this walk. A walk that restarts each time that a member goes down may
   * never end.
   */
  private onceMore = false;
  private closed = false;
  // Timers run only while there is something to do. On an idle node, each tick costs more than the work that it finds.
  private stopFlushing: (() => void) | undefined;
  private readonly leases: CopiedLeases;
  private readonly outbox: Outbox;
  private readonly queue: ReplicaQueue;
  private readonly walk: TableWalk;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly table: BucketTable;
      readonly copies: Copies;
      readonly membership: Membership;
      readonly ask: Ask;
      /**
       * How many successors hold a copy. If none of them is on another host, the next successor that is on one holds a
       * copy too, if there is one.
       */
      readonly replicas: number;
      /** How old a copy may be. */
      readonly intervalMs: number;
      /** How long an acknowledgement may take. */
      readonly suspectAfterMs: number;
    },
  ) {
    const { clock, timers, table, copies, membership, ask, suspectAfterMs } = parts;
    const placement = (this.placement = new Placement(membership, parts.replicas));
    const isForJoiner = (to: NodeId, client: Placed): boolean => this.joiners.get(to)?.(client) === true;
    const leases = (this.leases = new CopiedLeases({
      clock,
      table,
      membership,
      placement,
      isForJoiner,
      suspectAfterMs,
    }));
    const showsLeases = (to: NodeId, client: Client): boolean => leases.shows(to, client);
    const acknowledged = (clientId: string): void => this.acknowledged(clientId);
    const timeoutMs = suspectAfterMs;
    this.outbox = new Outbox({ clock, membership, ask, table, copies, showsLeases, acknowledged, timeoutMs });
    this.queue = new ReplicaQueue({ clock, timers, copies, ask, showsLeases, timeoutMs });
    this.walk = new TableWalk(
      { timers, table },
      {
        visit: (client) => this.place(client),
        // A member that is down can stay in the ring for long. The copies that wait for it must not delay the others.
        mayGoOn: () => this.outbox.waiting((id) => this.isWanted(id) && !membership.isDown(id)) <= MAX_PENDING,
        done: () => {
          this.placement.done();
          if (this.onceMore) return this.startPlacing();
          this.nextOwnerOf = undefined;
        },
      },
    );
  }

  /** Notes that a client's buckets changed. Its copies go out within the interval. */
  changed(client: Client): void {
    const { membership, table } = this.parts;
    // A ring of one has no successors. The next change of the ring walks the whole table.
    if ((membership.ring().members.length < 2 && this.joiners.size === 0) || !table.mark(client.slot, MARK.changed))
      return;
    this.changedSlots.push(client.slot);
    this.startFlushing();
  }

  /**
   * Sends copies of some clients now.
   * @param to `all`: to all successors that are not down; `synchronous`: to the first successor and, if that is on this
   * node's host, to one on another host
   * @returns the clients whose copies all these members have acknowledged; there must be at least one such member
   */
  async replicateNow(clientIds: readonly string[], to: 'synchronous' | 'all'): Promise<ReadonlySet<string>> {
    const kept = await Promise.all(
      clientIds.map(async (clientId) => {
        const ids =
          to === 'synchronous'
            ? this.placement.syncReplicasOf(clientId)
            : this.placement.targetsOf(clientId).filter((id) => !this.parts.membership.isDown(id));
        const acknowledged = await Promise.all(ids.map((id) => this.queue.send(id, clientId)));
        return ids.length > 0 && acknowledged.every(Boolean);
      }),
    );
    return new Set(clientIds.filter((_, i) => kept[i]));
  }

  /**
   * Notes that copies came from another node. A joining member gets them too. The owner may die before it has sent them
   * to the joining member, which would decide next.
   * @param view the sender's view of the members
   */
  copiesReceived(clients: Uint8Array, view: string): void {
    const { membership, copies } = this.parts;
    if (view !== membership.view())
      copies.visit(clients, (client, { hasLeases }) => (hasLeases ? this.leases.copyReceived(client) : undefined));
    if (this.joiners.size > 0) copies.visit(clients, (client) => this.passToJoiners(client));
  }

  /** Walks the whole table, in steps, to find the clients that have a new owner or successor in the changed ring. */
  ringChanged(): void {
    this.leases.ringChanged();
    this.startPlacing();
  }

  /**
   * Adds a joining member. Until `dropJoiner`, it gets the changes of the clients that it will hold.
   * @param willHold whether the member will hold a client
   */
  addJoiner(id: NodeId, willHold: (client: Placed) => boolean): void {
    this.joiners.set(id, willHold);
  }

  dropJoiner(id: NodeId): void {
    this.joiners.delete(id);
  }

  /** See `Outbox.unsent`. This node sends all of them until they are acknowledged. */
  unsent(id: NodeId, owns: (client: Placed) => boolean): Unsent {
    this.distribute();
    return this.outbox.unsent(id, owns);
  }

  /**
   * Called before this node leaves, alone or with others. Walks the whole table for clients whose next owner has no
   * copy, because the members with copies are down or leave too. It does not walk if the ring alone shows that there
   * are no such clients.
   * @param leaving the members that leave, with this node
   */
  handOffFrom(leaving: readonly NodeId[]): void {
    const { membership } = this.parts;
    const copied = leaving.length === 1 || this.placement.isWholeHost(leaving);
    if (copied && !membership.ring().members.some((id) => membership.isDown(id))) return;
    this.nextOwnerOf = (client) => this.placement.nextOwnerWithoutCopyOf(client, leaving);
    this.startPlacing();
  }

  /**
   * Called with each heartbeat. If a member has gone down and stays in the ring, the next owner of each client for
   * which this node decides gets a copy before the ring changes.
   */
  checkTimeouts(): void {
    const { membership } = this.parts;
    if (membership.takeover !== 'registry') return;
    const before = this.down;
    this.down = membership.ring().members.filter((id) => membership.isDown(id));
    if (this.down.every((id) => before.includes(id))) return;
    // The walk of a leaving node covers all clients already.
    this.onceMore = this.nextOwnerOf !== undefined;
    this.nextOwnerOf ??= (client) =>
      this.placement.decides(client) ? this.placement.nextOwnerWithoutCopyOf(client, []) : undefined;
    if (!this.onceMore) this.startPlacing();
  }

  /** Sends all waiting copies. Resolves when each is acknowledged or its target is down. */
  async flush(): Promise<void> {
    this.sendAll();
    await this.outbox.sent();
  }

  /** Resolves once every target has the copies to which the ring entitles it, or after `timeoutMs`. */
  async drained(timeoutMs: number): Promise<void> {
    const { clock, timers } = this.parts;
    const untilMs = clock.nowMs() + timeoutMs;
    while (this.isPlacing() && clock.nowMs() < untilMs) await timers.sleep(LOOK_INTERVAL_MS);
    await this.flush();
  }

  /**
   * Ms since the oldest copy was queued that a successor which is up has not acknowledged; 0: none. A copy is queued up
   * to an interval after its change.
   */
  lagMs(): number {
    return this.outbox.lagMs();
  }

  /** Clients that the walk after a change of the ring has yet to visit. */
  unplaced(): number {
    return this.walk.left();
  }

  close(): void {
    this.closed = true;
    this.stopFlushing?.();
    this.walk.close();
  }

  private enqueue(id: NodeId, client: Client, whole: boolean): void {
    this.outbox.add(id, client, whole);
    this.startFlushing();
  }

  private distribute(): void {
    const { table } = this.parts;
    const slots = this.changedSlots;
    this.changedSlots = [];
    for (const slot of slots) {
      const client = table.peekAt(slot);
      if (client === undefined || !table.unmark(slot, MARK.changed)) continue;
      for (const id of this.placement.targetsOf(client)) this.enqueue(id, client, false);
      this.passToJoiners(client);
    }
  }

  private passToJoiners(client: Client): void {
    if (this.joiners.size === 0) return;
    for (const [id, willHold] of this.joiners) if (willHold(client)) this.enqueue(id, client, false);
  }

  /** Drops the leases of a client once every member that is to have a copy has them, if this node is to have none. */
  private acknowledged(clientId: string): void {
    const client = this.parts.table.peek(clientId);
    if (client === undefined || client.isChanged || this.outbox.has(client)) return;
    this.leases.dropUnentitled(client);
  }

  private isWanted(id: NodeId): boolean {
    return this.parts.membership.ring().members.includes(id) || this.joiners.has(id);
  }

  private sendAll(): void {
    this.distribute();
    // A member that left the ring gets no more copies once the walk has found other members for them. If it comes back
    // before that, it still gets the copies that wait.
    this.outbox.sendAll((id) => (this.isWanted(id) ? 'send' : this.isPlacing() ? 'keep' : 'drop'));
  }

  /** Whether a walk of the table has yet to end. */
  private isPlacing(): boolean {
    return !this.placement.isDone() || this.nextOwnerOf !== undefined;
  }

  /** Finds the members that are to have a client after a change of the ring. */
  private place(client: Client): void {
    const nextOwner = this.nextOwnerOf?.(client);
    if (nextOwner !== undefined) {
      this.leases.addNextOwner(nextOwner);
      this.enqueue(nextOwner, client, true);
    }
    const { isMine, wasMine, peersLackState } = this.placement.moveOf(client);
    // A client that this node owned before, or alone knows, goes to its new owner, which must not know less. It also
    // goes to the member after that one: the ring may change again before the new owner has passed it on.
    if (!isMine && (wasMine || peersLackState)) this.parts.table.mark(client.slot, MARK.actingOwner);
    if (isMine === wasMine && !client.decidedAsActingOwner && !peersLackState) {
      this.leases.dropUnentitled(client);
      return;
    }
    for (const id of this.placement.targetsOf(client)) this.enqueue(id, client, true);
  }

  private startFlushing(): void {
    const { timers, intervalMs } = this.parts;
    if (this.closed) return;
    this.stopFlushing ??= timers.every(intervalMs, () => {
      this.sendAll();
      if (!this.outbox.isEmpty()) return;
      this.leases.allSent();
      this.stopFlushing?.();
      this.stopFlushing = undefined;
    });
  }

  private startPlacing(): void {
    this.onceMore = false;
    this.walk.start();
  }
}

import type { NodeId, Placed } from '../limits/ring/ring.js';
import { MARK, type BucketTable, type Client } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import { TableWalk } from '../state/table-walk.js';
import { createCopiedLeases } from './copied-leases.js';
import { createOutbox, type Unsent } from './outbox.js';
import { createPlacement } from './placement.js';
import { createReplicaQueue } from './replica-queue.js';
import type { Ask } from '../protocol/peer-transport.js';
import type { Clock, Timers } from '../lib/clock.js';

/** How often `drained` checks whether the walk of the table has ended. */
const LOOK_INTERVAL_MS = 20;
/** The walk of the table pauses while more copies than this wait for their targets. */
const MAX_PENDING = 20_000;

interface ReplicatorDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly table: BucketTable;
  readonly copies: Copies;
  readonly membership: Membership;
  readonly ask: Ask;
}

interface ReplicatorOptions {
  /**
   * How many successors hold a copy. If none of them is on another host, the next successor that is holds a copy too,
   * if there is one.
   */
  readonly replicas: number;
  /** How old a copy may be. */
  readonly intervalMs: number;
  /** How long an acknowledgement may take: the suspicion time. */
  readonly timeoutMs: number;
}

export interface Replicator {
  /** Notes that a client's buckets changed. Its copies go out within the interval. */
  changed(client: Client): void;
  /**
   * Sends copies of some clients now.
   * @param to `all`: to all successors that are not down; `synchronous`: to the first successor and, if that is on this
   * node's host, to one on another host
   * @returns the clients whose copies all these members have acknowledged; there must be at least one such member
   */
  replicateNow(clientIds: readonly string[], to: 'synchronous' | 'all'): Promise<ReadonlySet<string>>;
  /** Walks the whole table, in steps, to find the clients that have a new owner or successor in the changed ring. */
  ringChanged(): void;
  /**
   * Notes that copies came from another node. A joining member gets them too. The owner may die before it has sent them
   * to the joining member, which would decide next.
   * @param view the sender's view of the members
   */
  copiesReceived(clients: Uint8Array, view: string): void;
  /**
   * Adds a joining member. Until `dropJoiner`, it gets the changes of the clients that it will hold.
   * @param willHold whether the member will hold a client
   */
  addJoiner(id: NodeId, willHold: (client: Placed) => boolean): void;
  dropJoiner(id: NodeId): void;
  /** See `Outbox.unsent`. This node sends all of them until they are acknowledged. */
  unsent(id: NodeId, owns: (client: Placed) => boolean): Unsent;
  /**
   * Called before this node leaves, alone or with others. Walks the whole table for clients whose next owner has no
   * copy, because the members with copies are down or leave too. It does not walk if the ring alone shows that there
   * are no such clients.
   * @param leaving the members that leave, with this node
   */
  handOffFrom(leaving: readonly NodeId[]): void;
  /**
   * Called with each heartbeat. If a member has gone down and stays in the ring, the next owner of each client for
   * which this node decides gets a copy before the ring changes.
   */
  checkTimeouts(): void;
  /** Sends all waiting copies. Resolves when each is acknowledged or its target is down. */
  flush(): Promise<void>;
  /** Resolves once every target has the copies to which the ring entitles it, or after `timeoutMs`. */
  drained(timeoutMs: number): Promise<void>;
  /**
   * Ms since the oldest copy was queued that a successor which is up has not acknowledged; 0: none. A copy is queued up
   * to an interval after its change.
   */
  lagMs(): number;
  /** Clients that the walk after a change of the ring has yet to visit. */
  unplaced(): number;
  close(): void;
}

/** Keeps copies of the clients for which this node decides at the members that would take over. */
export function createReplicator(deps: ReplicatorDeps, options: ReplicatorOptions): Replicator {
  const { clock, timers, table, copies, membership, ask } = deps;
  const placement = createPlacement({ membership }, options);
  const { targetsOf, syncReplicasOf, nextOwnerWithoutCopyOf } = placement;
  /** Slots of clients that were marked as changed. */
  let changedSlots: number[] = [];
  const joiners = new Map<NodeId, (client: Placed) => boolean>();
  /** During a walk for next owners, returns the member that is to have a whole copy of a client besides the targets. */
  let nextOwnerOf: ((client: Placed) => NodeId | undefined) | undefined;
  let down: readonly NodeId[] = [];
  /**
   * Whether to walk the table once more after this walk. A walk that restarts each time that a member goes down may
   * never end.
   */
  let onceMore = false;
  let closed = false;
  // Timers run only while there is something to do. On an idle node, each tick costs more than the work that it finds.
  let stopFlushing: (() => void) | undefined;

  const isForJoiner = (to: NodeId, client: Placed): boolean => joiners.get(to)?.(client) === true;
  const leases = createCopiedLeases(
    { clock, table, membership, placement, isForJoiner },
    { suspectAfterMs: options.timeoutMs },
  );
  const { shows: showsLeases } = leases;
  const outbox = createOutbox({ clock, membership, ask, table, copies, showsLeases, acknowledged }, options);
  const queue = createReplicaQueue({ clock, timers, copies, ask, showsLeases }, options);
  const walk = new TableWalk(
    { timers, table },
    {
      visit: place,
      // A member that is down can stay in the ring for long. The copies that wait for it must not delay the others.
      mayGoOn: () => outbox.waiting((id) => isWanted(id) && !membership.isDown(id)) <= MAX_PENDING,
      done() {
        placement.done();
        if (onceMore) return startPlacing();
        nextOwnerOf = undefined;
      },
    },
  );

  function enqueue(id: NodeId, client: Client, whole: boolean): void {
    outbox.add(id, client, whole);
    startFlushing();
  }

  function distribute(): void {
    const slots = changedSlots;
    changedSlots = [];
    for (const slot of slots) {
      const client = table.peekAt(slot);
      if (client === undefined || !table.unmark(slot, MARK.changed)) continue;
      for (const id of targetsOf(client)) enqueue(id, client, false);
      passToJoiners(client);
    }
  }

  function passToJoiners(client: Client): void {
    if (joiners.size === 0) return;
    for (const [id, willHold] of joiners) if (willHold(client)) enqueue(id, client, false);
  }

  /** Drops the leases of a client once every member that is to have a copy has them, if this node is to have none. */
  function acknowledged(clientId: string): void {
    const client = table.peek(clientId);
    if (client === undefined || client.isChanged || outbox.has(client)) return;
    leases.dropUnentitled(client);
  }

  function isWanted(id: NodeId): boolean {
    return membership.ring().members.includes(id) || joiners.has(id);
  }

  function sendAll(): void {
    distribute();
    // A member that left the ring gets no more copies once the walk has found other members for them. If it comes back
    // before that, it still gets the copies that wait.
    outbox.sendAll((id) => (isWanted(id) ? 'send' : isPlacing() ? 'keep' : 'drop'));
  }

  /** Whether a walk of the table has yet to end. */
  function isPlacing(): boolean {
    return !placement.isDone() || nextOwnerOf !== undefined;
  }

  /** Finds the members that are to have a client after a change of the ring. */
  function place(client: Client): void {
    const nextOwner = nextOwnerOf?.(client);
    if (nextOwner !== undefined) {
      leases.addNextOwner(nextOwner);
      enqueue(nextOwner, client, true);
    }
    const { isMine, wasMine, isNews } = placement.moveOf(client);
    // A client that this node owned before, or alone knows, goes to its new owner, which must not know less. It also
    // goes to the member after that one: the ring may change again before the new owner has passed it on.
    if (!isMine && (wasMine || isNews)) table.mark(client.slot, MARK.actingOwner);
    if (isMine === wasMine && !client.decidedAsActingOwner && !isNews) {
      leases.dropUnentitled(client);
      return;
    }
    for (const id of targetsOf(client)) enqueue(id, client, true);
  }

  function startFlushing(): void {
    if (closed) return;
    stopFlushing ??= timers.every(options.intervalMs, () => {
      sendAll();
      if (!outbox.isEmpty()) return;
      leases.allSent();
      stopFlushing?.();
      stopFlushing = undefined;
    });
  }

  function startPlacing(): void {
    onceMore = false;
    walk.start();
  }

  const replicator: Replicator = {
    changed(client) {
      // A ring of one has no successors. The next change of the ring walks the whole table.
      if ((membership.ring().members.length < 2 && joiners.size === 0) || !table.mark(client.slot, MARK.changed))
        return;
      changedSlots.push(client.slot);
      startFlushing();
    },
    async replicateNow(clientIds, to) {
      const kept = await Promise.all(
        clientIds.map(async (clientId) => {
          const ids =
            to === 'synchronous'
              ? syncReplicasOf(clientId)
              : targetsOf(clientId).filter((id) => !membership.isDown(id));
          const acknowledged = await Promise.all(ids.map((id) => queue.send(id, clientId)));
          return ids.length > 0 && acknowledged.every(Boolean);
        }),
      );
      return new Set(clientIds.filter((_, i) => kept[i]));
    },
    copiesReceived(clients, view) {
      if (view !== membership.view())
        copies.visit(clients, (client, { hasLeases }) => (hasLeases ? leases.copyReceived(client) : undefined));
      if (joiners.size > 0) copies.visit(clients, passToJoiners);
    },
    ringChanged() {
      leases.ringChanged();
      startPlacing();
    },
    addJoiner: (id, willHold) => joiners.set(id, willHold),
    dropJoiner: (id) => joiners.delete(id),
    unsent(id, owns) {
      distribute();
      return outbox.unsent(id, owns);
    },
    handOffFrom(leaving) {
      const copied = leaving.length === 1 || placement.isWholeHost(leaving);
      if (copied && !membership.ring().members.some((id) => membership.isDown(id))) return;
      nextOwnerOf = (client) => nextOwnerWithoutCopyOf(client, leaving);
      startPlacing();
    },
    checkTimeouts() {
      if (!placement.lags) return;
      const before = down;
      down = membership.ring().members.filter((id) => membership.isDown(id));
      if (down.every((id) => before.includes(id))) return;
      // The walk of a leaving node covers all clients already.
      onceMore = nextOwnerOf !== undefined;
      nextOwnerOf ??= (client) => (placement.decides(client) ? nextOwnerWithoutCopyOf(client, []) : undefined);
      if (!onceMore) startPlacing();
    },
    async flush() {
      sendAll();
      await outbox.sent();
    },
    async drained(timeoutMs) {
      const untilMs = clock.nowMs() + timeoutMs;
      while (isPlacing() && clock.nowMs() < untilMs) await timers.sleep(LOOK_INTERVAL_MS);
      await replicator.flush();
    },
    lagMs: () => outbox.lagMs(),
    unplaced: () => walk.left(),
    close() {
      closed = true;
      stopFlushing?.();
      walk.close();
    },
  };
  return replicator;
}

import { dropLeases, hasLeases } from '../../core/bucket.js';
import type { NodeId, Placed } from '../../core/ring.js';
import { MARK } from '../state/bucket-table.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import type { ClientCopies, ClientSnapshot } from '../messages.js';
import { createTableWalk } from '../state/table-walk.js';
import { createOutbox } from './outbox.js';
import { createPlacement } from './placement.js';
import { createReplicaQueue } from './replica-queue.js';
import type { Ask, Clock, Timers } from '../ports.js';

/** How often `drained` looks whether the table has been looked through. */
const LOOK_INTERVAL_MS = 20;
/** While so many copies wait for their targets, no more are found for them. */
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
  /** How many successors hold a copy; one on another host does in any case, where there is one. */
  readonly replicas: number;
  /** How old a copy may be. */
  readonly intervalMs: number;
  /** How long an acknowledgement may take. */
  readonly timeoutMs: number;
}

export interface Replicator {
  /** Notes that a client's buckets changed: its copies go out within the interval. */
  changed(client: Client): void;
  /**
   * Sends copies of some clients now: to all successors that are not down, or as witnesses to the first, and, where it is on this
   * node's host, to one elsewhere. @returns those of which all these, at least one, have acknowledged them
   */
  replicateNow(clientIds: readonly string[], to: 'synchronous' | 'all'): Promise<ReadonlySet<string>>;
  /** Looks through the whole table, in steps, for what the ring's change gave a new owner or successor. */
  ringChanged(): void;
  /**
   * Notes that copies came from another node. A joining member gets them too: their owner may die before it has sent them, and
   * the joiner would decide next.
   */
  copiesReceived(copied: ClientCopies): void;
  /** A joining member, which gets what changes among the clients it will hold, as `willHold` says, until it is dropped. */
  addJoiner(id: NodeId, willHold: (client: Placed) => boolean): void;
  dropJoiner(id: NodeId): void;
  /** What a joining member has not acknowledged yet; it goes on being sent until it has. */
  unsent(id: NodeId): ClientSnapshot[];
  /**
   * Before this node leaves, with others perhaps: looks through the whole table for clients whose next decider is none of those
   * that have copies, as those are down or leave as well; not where the ring alone says that there are none.
   */
  handOffFrom(leaving: readonly NodeId[]): void;
  /**
   * To be called with each heartbeat: where the ring lags, and a member has gone down, who decides next for a client of this node
   * gets a copy before the ring says so.
   */
  checkTimeouts(): void;
  /** Sends all that waits, and resolves when it is acknowledged or its target is down. */
  flush(): Promise<void>;
  /** Resolves once every target has had what the ring entitles it to, or after `timeoutMs`. */
  drained(timeoutMs: number): Promise<void>;
  /** Ms since the oldest copy set out, up to an interval after its change, that a living successor has not acknowledged; 0: none. */
  readonly lagMs: number;
  /** Clients still to be looked at after a change of the ring. */
  readonly unplaced: number;
  close(): void;
}

/** Keeps copies of what this node decides at those who would take over. */
export function createReplicator(deps: ReplicatorDeps, options: ReplicatorOptions): Replicator {
  const { clock, timers, table, copies, membership, ask } = deps;
  const placement = createPlacement({ membership }, options);
  const { targetsOf, syncReplicasOf, nextOwnerWithoutCopyOf, isEntitled } = placement;
  /** Slots of clients that were marked as changed. */
  let changedSlots: number[] = [];
  const joiners = new Map<NodeId, (client: Placed) => boolean>();
  /** Who is to have a client whole besides, while the table is looked through for it. */
  let nextOwnerOf: ((client: Placed) => NodeId | undefined) | undefined;
  let down: readonly NodeId[] = [];
  /** Whether to look through it once more when that is done: who begins anew each time that a member goes down may never end. */
  let onceMore = false;
  let closed = false;
  // Timers run only while there is something to do: on an idle node each tick costs more than what it finds.
  let stopFlushing: (() => void) | undefined;

  const outbox = createOutbox({ clock, membership, ask, table, copies, acknowledged }, options);
  const queue = createReplicaQueue({ clock, timers, copies, ask }, options);
  const walk = createTableWalk(
    { timers, table },
    {
      visit: place,
      // One that is down can stay in the ring for long: what waits for it must not keep the others from theirs.
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
      for (const [id, willHold] of joiners) if (willHold(client)) enqueue(id, client, false);
    }
  }

  /**
   * A node that is to have no copy drops the leases once all who are have them: not hearing how they end, it would count them as
   * spent, and whatever changes the ring next may ask for its copy again.
   */
  function acknowledged(clientId: string): void {
    const client = table.peek(clientId);
    if (client === undefined || client.isChanged || isEntitled(client) || outbox.has(client)) return;
    dropLeases(client);
    table.close(client, clock.nowMs());
  }

  function isWanted(id: NodeId): boolean {
    return membership.ring.members.includes(id) || joiners.has(id);
  }

  function sendAll(): void {
    distribute();
    // Whoever left the ring gets no copies any more, once the change of the ring has found others for them: should it be back
    // before that, it is owed what waits.
    outbox.sendAll((id) => (isWanted(id) ? 'send' : isPlacing() ? 'keep' : 'drop'));
  }

  /** Whether the table is still being looked through. */
  function isPlacing(): boolean {
    return !placement.isDone || nextOwnerOf !== undefined;
  }

  /** Finds who is to have a client after a change of the ring. */
  function place(client: Client): void {
    const nextOwner = nextOwnerOf?.(client);
    if (nextOwner !== undefined) enqueue(nextOwner, client, true);
    const { isMine, wasMine, isNews } = placement.moveOf(client);
    // What this node owned before, or alone knows, goes to its new owner, which must not know less, and to the one after it,
    // should the ring change again before the first has passed it on.
    if (!isMine && (wasMine || isNews)) table.mark(client.slot, MARK.actingOwner);
    if (isMine === wasMine && !client.decidedAsActingOwner && !isNews) {
      if (hasLeases(client) && !isEntitled(client)) {
        dropLeases(client);
        table.close(client, clock.nowMs());
      }
      return;
    }
    for (const id of targetsOf(client)) enqueue(id, client, true);
  }

  function startFlushing(): void {
    if (closed) return;
    stopFlushing ??= timers.every(options.intervalMs, () => {
      sendAll();
      if (!outbox.isEmpty) return;
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
      // In a ring of one there is nobody to tell; a change of the ring looks through the whole table.
      if ((membership.ring.members.length < 2 && joiners.size === 0) || !table.mark(client.slot, MARK.changed)) return;
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
    copiesReceived({ clients, records }) {
      if (joiners.size === 0) return;
      const pass = (client: Client | undefined): void => {
        if (client === undefined) return;
        for (const [id, willHold] of joiners) if (willHold(client)) enqueue(id, client, false);
      };
      for (const [clientId] of clients) pass(table.peek(clientId));
      if (records !== undefined) copies.eachOf(records, pass);
    },
    ringChanged: startPlacing,
    addJoiner: (id, willHold) => joiners.set(id, willHold),
    dropJoiner: (id) => joiners.delete(id),
    unsent(id) {
      distribute();
      return outbox.unsent(id);
    },
    handOffFrom(leaving) {
      const copied = leaving.length === 1 || placement.isWholeHost(leaving);
      if (copied && !membership.ring.members.some((id) => membership.isDown(id))) return;
      nextOwnerOf = (client) => nextOwnerWithoutCopyOf(client, leaving);
      startPlacing();
    },
    checkTimeouts() {
      if (!placement.lags) return;
      const before = down;
      down = membership.ring.members.filter((id) => membership.isDown(id));
      if (down.every((id) => before.includes(id))) return;
      // Who leaves has all looked at already.
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
    get lagMs() {
      return outbox.lagMs;
    },
    get unplaced() {
      return walk.left;
    },
    close() {
      closed = true;
      stopFlushing?.();
      walk.close();
    },
  };
  return replicator;
}

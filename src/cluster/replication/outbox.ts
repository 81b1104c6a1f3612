import type { NodeId } from '../../core/ring/ring.js';
import type { Membership } from '../membership/membership.js';
import type { ClientCopies, ClientSnapshot } from '../messages.js';
import type { Ask, Clock } from '../ports.js';
import type { BucketTable, Client } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import { MAX_COPIES_BYTES, weightOf } from '../state/weight.js';

export interface Unsent {
  readonly clients: readonly ClientSnapshot[];
  readonly more: boolean;
}

/** Clients in one message. A receiver merges them in about a millisecond. */
const CHUNK = 1_000;

/**
 * Copies that wait for other nodes or are under way. Each node gets one message at a time. A copy is made when its
 * message is made.
 */
interface Outbox {
  /** @param whole true: with all that is known of the client; false: with the changes only */
  add(to: NodeId, client: Client, whole: boolean): void;
  /**
   * Sends each node one message of waiting copies, unless a message to it is under way or the node is down. The rest
   * follows when the node answers.
   */
  sendAll(to: (id: NodeId) => 'send' | 'keep' | 'drop'): void;
  /** Resolves when the nodes that are up have acknowledged all their copies. */
  sent(): Promise<void>;
  /** Whether a copy of the client waits or is under way. */
  has(client: Client): boolean;
  /**
   * Returns copies that the node has not acknowledged yet, as many as one message holds: first of clients that it owns.
   * `more` is whether it owns further ones.
   */
  unsent(to: NodeId, owns: (client: Client) => boolean): Unsent;
  /** Number of copies that wait for the counted nodes. */
  waiting(isCounted: (id: NodeId) => boolean): number;
  readonly isEmpty: boolean;
  /** Ms since the oldest copy was queued that a node which is up has not acknowledged; 0: none. */
  readonly lagMs: number;
}

/**
 * Clients by their slots. The value is twice the client's generation, plus 1 if all that is known of the client is to
 * be sent. The generation matters because another client may have the slot by the time of sending.
 */
type Outgoing = Map<number, number>;
const WHOLE = 1;

interface Target {
  /** Clients whose copies wait to be sent. */
  waiting: Outgoing;
  /** Clients in the message under way. */
  sending: Outgoing;
  done: Promise<void>;
  sinceMs: number;
}

interface OutboxDeps {
  readonly clock: Clock;
  readonly membership: Pick<Membership, 'isDown'>;
  readonly ask: Ask;
  readonly table: Pick<BucketTable, 'peekAt'>;
  readonly copies: Pick<Copies, 'of' | 'createBatch'>;
  /** Called for each client with leases after a node has acknowledged its copy. */
  readonly acknowledged: (clientId: string) => void;
}

export function createOutbox(deps: OutboxDeps, { timeoutMs }: { timeoutMs: number }): Outbox {
  const { clock, membership, ask, table, copies, acknowledged } = deps;
  const targets = new Map<NodeId, Target>();

  function add(to: NodeId, client: Client, whole: boolean): void {
    const target = targetOf(to);
    const before = target.waiting.get(client.slot) ?? 0;
    const value = 2 * client.generation;
    const isWhole = whole || before === value + WHOLE;
    target.waiting.set(client.slot, isWhole ? value + WHOLE : value);
  }

  function targetOf(to: NodeId): Target {
    let target = targets.get(to);
    if (target === undefined) {
      target = { waiting: new Map(), sending: new Map(), done: Promise.resolve(), sinceMs: clock.nowMs() };
      targets.set(to, target);
    }
    if (target.waiting.size === 0 && target.sending.size === 0) target.sinceMs = clock.nowMs();
    return target;
  }

  /** Returns the client that was queued, if the table still holds it. */
  function clientAt(slot: number, value: number): Client | undefined {
    const client = table.peekAt(slot);
    return client !== undefined && client.generation === value >> 1 ? client : undefined;
  }

  /** Queues again the clients that were not acknowledged. Their next copies show the state at that time. */
  function putBack(to: NodeId, sending: Outgoing): void {
    for (const [slot, value] of sending) {
      const client = clientAt(slot, value);
      if (client !== undefined) add(to, client, (value & WHOLE) !== 0);
    }
  }

  /** Moves as many waiting clients into the message as it holds, at least one. */
  function pack(target: Target): ClientCopies {
    const batch = copies.createBatch();
    let packed = 0;
    for (const [slot, value] of target.waiting) {
      const client = clientAt(slot, value);
      if (client !== undefined) batch.add(client, (value & WHOLE) !== 0);
      packed += 1;
      // One client weighs at most 2 MB, so a peer accepts the message even with the last client.
      if (packed === CHUNK || batch.bytes > MAX_COPIES_BYTES) break;
    }
    if (packed === target.waiting.size) {
      target.sending = target.waiting;
      target.waiting = new Map();
    } else {
      for (const [slot, value] of target.waiting) {
        target.sending.set(slot, value);
        target.waiting.delete(slot);
        if (target.sending.size === packed) break;
      }
    }
    return batch.take();
  }

  function send(to: NodeId, target: Target): void {
    if (target.sending.size > 0 || target.waiting.size === 0 || membership.isDown(to)) return;
    const copied = pack(target);
    const sentAtMs = clock.nowMs();
    const lent = copied.clients.filter(([, buckets]) => buckets.some(({ leases }) => leases));
    target.done = ask(to, { kind: 'replicate', ...copied }, timeoutMs).then((asked) => {
      const { sending } = target;
      target.sending = new Map();
      if (asked.kind === 'answer' && asked.body.kind === 'kept') {
        target.sinceMs = sentAtMs;
        send(to, target);
        for (const [clientId] of lent) acknowledged(clientId);
      } else {
        putBack(to, sending);
      }
    });
  }

  return {
    add,
    sendAll(to) {
      for (const [id, target] of targets) {
        const what = to(id);
        if (what === 'send') send(id, target);
        else if (what === 'drop') targets.delete(id);
      }
    },
    async sent() {
      for (const [id, target] of targets) while (target.sending.size > 0 && !membership.isDown(id)) await target.done;
    },
    has({ slot, generation }) {
      for (const { waiting, sending } of targets.values()) {
        if ([waiting.get(slot), sending.get(slot)].some((value) => value !== undefined && value >> 1 === generation))
          return true;
      }
      return false;
    },
    unsent(to, owns) {
      const target = targets.get(to);
      const clients: ClientSnapshot[] = [];
      if (target === undefined) return { clients, more: false };
      const others: Outgoing = new Map();
      let bytes = 0;
      const isFull = (): boolean => bytes >= MAX_COPIES_BYTES || clients.length >= CHUNK;
      const add = (client: Client, value: number): void => {
        const snapshot = copies.of(client, (value & WHOLE) !== 0);
        if (snapshot === undefined) return;
        clients.push(snapshot);
        bytes += weightOf(snapshot);
      };
      for (const outgoing of [target.waiting, target.sending]) {
        for (const [slot, value] of outgoing) {
          // A client that changed since its message was made waits again.
          if (outgoing === target.sending && target.waiting.has(slot)) continue;
          const client = clientAt(slot, value);
          if (client === undefined) continue;
          if (!owns(client)) others.set(slot, value);
          else if (isFull()) return { clients, more: true };
          else add(client, value);
        }
      }
      for (const [slot, value] of others) {
        if (isFull()) break;
        const client = clientAt(slot, value);
        if (client !== undefined) add(client, value);
      }
      return { clients, more: false };
    },
    waiting(isCounted) {
      let waiting = 0;
      for (const [id, target] of targets) if (isCounted(id)) waiting += target.waiting.size;
      return waiting;
    },
    get isEmpty() {
      for (const { waiting, sending } of targets.values()) if (waiting.size + sending.size > 0) return false;
      return true;
    },
    get lagMs() {
      let sinceMs = clock.nowMs();
      for (const [id, { waiting, sending, sinceMs: oldestMs }] of targets) {
        if (waiting.size + sending.size > 0 && !membership.isDown(id)) sinceMs = Math.min(sinceMs, oldestMs);
      }
      return clock.nowMs() - sinceMs;
    },
  };
}

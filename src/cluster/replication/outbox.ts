import type { NodeId } from '../../core/ring.js';
import type { Membership } from '../membership/membership.js';
import type { ClientSnapshot } from '../messages.js';
import type { Ask, Clock } from '../ports.js';
import { MAX_COPIES_BYTES, weightOf } from '../state/weight.js';

/** Clients in one message: what a receiver merges in about a millisecond. */
const CHUNK = 1_000;

/** Copies on their way to other nodes, each made when its message is: what waits for a node, and one message at a time to it. */
interface Outbox {
  /** @param whole with all that is known of the client, else with what is new */
  add(to: NodeId, clientId: string, whole: boolean): void;
  /** Sends to each node as much as one message holds, unless one is under way or it is down; the rest follows on its answer. */
  sendAll(to: (id: NodeId) => 'send' | 'keep' | 'drop'): void;
  /** Resolves when all that waited for nodes that are up was acknowledged. */
  sent(): Promise<void>;
  /** Whether a client waits, or is under way. */
  has(clientId: string): boolean;
  /** What a node has not acknowledged yet. */
  unsent(to: NodeId): ClientSnapshot[];
  /** Copies that wait, for those of these nodes. */
  waiting(isCounted: (id: NodeId) => boolean): number;
  readonly isEmpty: boolean;
  /** Ms since the oldest copy set out that a node which is up has not acknowledged; 0: none. */
  readonly lagMs: number;
}

/** Clients, and whether all that is known of each is to go. */
type Outgoing = Map<string, boolean>;

interface Target {
  /** Those whose copies wait to be sent. */
  waiting: Outgoing;
  /** Those in the message under way. */
  sending: Outgoing;
  done: Promise<void>;
  sinceMs: number;
}

interface OutboxDeps {
  readonly clock: Clock;
  readonly membership: Pick<Membership, 'isDown'>;
  readonly ask: Ask;
  /** What there is to send of a client now. */
  readonly snapshotOf: (clientId: string, whole: boolean) => ClientSnapshot | undefined;
  /** Told of each client with leases that a node has acknowledged. */
  readonly told: (clientId: string) => void;
}

export function createOutbox(deps: OutboxDeps, { timeoutMs }: { timeoutMs: number }): Outbox {
  const { clock, membership, ask, snapshotOf, told } = deps;
  const targets = new Map<NodeId, Target>();

  function add(to: NodeId, clientId: string, whole: boolean): void {
    let target = targets.get(to);
    if (target === undefined) {
      target = { waiting: new Map(), sending: new Map(), done: Promise.resolve(), sinceMs: clock.nowMs() };
      targets.set(to, target);
    }
    if (target.waiting.size === 0 && target.sending.size === 0) target.sinceMs = clock.nowMs();
    target.waiting.set(clientId, whole || target.waiting.get(clientId) === true);
  }

  /** Moves as many of those that wait into the message as it holds, at least one. */
  function pack(target: Target): ClientSnapshot[] {
    const clients: ClientSnapshot[] = [];
    let packed = 0;
    let bytes = 0;
    for (const [clientId, whole] of target.waiting) {
      const snapshot = snapshotOf(clientId, whole);
      if (snapshot !== undefined) {
        bytes += weightOf(snapshot);
        if (bytes > MAX_COPIES_BYTES && clients.length > 0) break;
        clients.push(snapshot);
      }
      packed += 1;
      if (packed === CHUNK) break;
    }
    if (packed === target.waiting.size) {
      target.sending = target.waiting;
      target.waiting = new Map();
    } else {
      for (const [clientId, whole] of target.waiting) {
        target.sending.set(clientId, whole);
        target.waiting.delete(clientId);
        if (target.sending.size === packed) break;
      }
    }
    return clients;
  }

  function send(to: NodeId, target: Target): void {
    if (target.sending.size > 0 || target.waiting.size === 0 || membership.isDown(to)) return;
    const clients = pack(target);
    const sentAtMs = clock.nowMs();
    const lent = clients.filter(([, buckets]) => buckets.some(({ leases }) => leases));
    target.done = ask(to, { kind: 'replicate', clients }, timeoutMs).then((asked) => {
      const { sending } = target;
      target.sending = new Map();
      if (asked.kind === 'answer' && asked.body.kind === 'kept') {
        target.sinceMs = sentAtMs;
        send(to, target);
        for (const [clientId] of lent) told(clientId);
      } else {
        // The next interval tries again, with what is true by then.
        for (const [clientId, whole] of sending) add(to, clientId, whole);
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
    has(clientId) {
      for (const { waiting, sending } of targets.values()) {
        if (waiting.has(clientId) || sending.has(clientId)) return true;
      }
      return false;
    },
    unsent(to) {
      const target = targets.get(to);
      const clients: ClientSnapshot[] = [];
      if (target === undefined) return clients;
      for (const [clientId, whole] of new Map([...target.sending, ...target.waiting])) {
        const snapshot = snapshotOf(clientId, whole);
        if (snapshot !== undefined) clients.push(snapshot);
      }
      return clients;
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

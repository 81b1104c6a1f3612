import { createRing } from '../../limits/ring/rings.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Copies, CopyBatch } from '../../state/copies.js';
import type { Membership } from '../../membership/membership.js';
import type { Ask } from '../../protocol/messages.js';
import type { Clock, Timers, Log } from '../../lib/system.js';
import type { WriteBehind } from './write-behind.js';

/** Clients in one message. */
const CHUNK = 500;
/** Places of the table that are looked at between two pauses. */
const STEP = 2_000;
/** How long a node waits for missing peers before it decides without them. */
const AWAIT_TIMEOUT_MS = 10_000;
const CHECK_EVERY_MS = 20;

/**
 * Restores the state of a cluster whose nodes were all down and have a store each. A node's store holds the clients
 * that it decided, and the stores of its peers hold the rest. Before a node enters the ring, it sends clients to their
 * owners. It does not decide before all peers are back that were in its last ring. So the first decision after the
 * restart is made on everything that was written.
 */
export class ColdStartRecovery {
  private readonly self: string;
  private returned = false;

  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly table: BucketTable;
      readonly copies: Copies;
      readonly membership: Membership;
      readonly writeBehind: Pick<WriteBehind, 'missingPeers' | 'stopAwaitingPeers'>;
      readonly log: Log;
      readonly ask: Ask;
    },
    private readonly options: { readonly suspectAfterMs: number },
  ) {
    const { id: self } = this.deps.membership.self();
    this.self = self;
  }

  /** Whether other members were in the ring when this node was last in it. */
  hasPeersToAwait(): boolean {
    return this.peers().length > 0;
  }

  /** Sends the clients of other owners to them, before this node enters the ring. @returns whether all were sent */
  async returnToOwners(): Promise<boolean> {
    // Once is enough: later changes are replicated as usual.
    if (this.returned) return true;
    const ring = createRing([...this.deps.membership.ring().members, this.self], this.deps.membership.ring());
    const chunks = new Map<NodeId, CopyBatch>();
    for (let slot = this.deps.table.size() - 1; slot >= 0; slot -= 1) {
      if (slot % STEP === 0) await this.deps.timers.sleep(0);
      const client = this.deps.table.at(slot);
      if (client?.decidedAsActingOwner !== true) continue;
      const owner = ring.owner(client.id);
      if (owner === undefined || owner === this.self) continue;
      let chunk = chunks.get(owner);
      if (chunk === undefined) chunks.set(owner, (chunk = this.deps.copies.createBatch()));
      chunk.add(client, true);
      if (chunk.clients === CHUNK && !(await this.send(owner, chunk))) return false;
    }
    const sent = await Promise.all([...chunks].map(([owner, chunk]) => this.send(owner, chunk)));
    return (this.returned = sent.every(Boolean));
  }

  /** Resolves when all missing peers are back, or after 10 s. */
  async awaitPeers(isClosed: () => boolean): Promise<void> {
    const startMs = this.deps.clock.nowMs();
    if (this.missing().length > 0)
      this.deps.log.info({ missing: this.missing() }, 'waiting for the peers of the last ring');
    while (this.missing().length > 0 && !isClosed()) {
      if (this.deps.clock.nowMs() - startMs >= AWAIT_TIMEOUT_MS) {
        this.deps.log.warn(
          { missing: this.missing() },
          'deciding without the missing peers; their stores are merged once they are back',
        );
        break;
      }
      await this.deps.timers.sleep(CHECK_EVERY_MS);
    }
    this.deps.writeBehind.stopAwaitingPeers();
  }

  // Workers may share a file. Then another worker can have written this node's id into it.
  private peers(): readonly NodeId[] {
    return this.deps.writeBehind.missingPeers().filter((id) => id !== this.self);
  }

  private missing(): readonly NodeId[] {
    return this.peers().filter((id) => !this.deps.membership.ring().members.includes(id));
  }

  private async send(to: NodeId, batch: CopyBatch): Promise<boolean> {
    if (batch.clients === 0) return true;
    const clients = batch.take();
    const asked = await this.deps.ask(to, { kind: 'replicate', clients }, this.options.suspectAfterMs);
    return asked.kind === 'answer' && asked.body.kind === 'kept';
  }
}

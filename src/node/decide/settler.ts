import type { Clock, Timers } from '../../lib/system.js';
import { decide } from '../../limits/decide/decide.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { callOwner, type OwnerCall, type Router } from '../../membership/route.js';
import type { Settled, Ask } from '../../protocol/messages.js';
import type { Acknowledger } from '../../replication/acknowledger.js';
import type { Replicator } from '../../replication/replicator.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Reservations } from '../../state/reservations.js';
import type { DecisionGate } from './decision-gate.js';

const UNAVAILABLE: Settled = { kind: 'unavailable' };

/** Replaces reserved costs by the real ones. */
export class Settler {
  constructor(
    private readonly self: NodeId,
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly table: BucketTable;
      readonly reservations: Reservations;
      readonly replicator: Pick<Replicator, 'changed'>;
      readonly ask: Ask;
      readonly router: Router;
      readonly gate: DecisionGate;
      /** In strict mode: a cost counts only once all that may decide next know of it. */
      readonly acknowledger: Acknowledger | undefined;
      readonly timeoutMs: number;
    },
  ) {}

  /** Replaces a reserved cost by the real one, once, whichever node is asked and however often. */
  async settle(clientId: string, reservation: string, cost: number): Promise<Settled> {
    const { self, parts } = this;
    const call: OwnerCall<Settled> = {
      key: clientId,
      here: () =>
        parts.gate.isClosed
          ? undefined
          : this.settleHere(clientId, reservation, cost).then((settled) => settled ?? UNAVAILABLE),
      message: { kind: 'settle', clientId, reservation, cost },
      outcome: (answer) => (answer.kind === 'settled' ? (answer.settled ?? undefined) : undefined),
    };
    const { timers, ask, router, timeoutMs } = parts;
    return (await callOwner({ timers, self, ask, router }, call, timeoutMs)) ?? UNAVAILABLE;
  }

  /** The same for a peer that takes this node for the decider; `null` when it is not, or cannot make the cost count. */
  async settleForPeer(clientId: string, reservation: string, cost: number): Promise<Settled | null> {
    const { router, gate } = this.parts;
    return router.deciderOf(clientId) === this.self && !gate.isClosed
      ? this.settleHere(clientId, reservation, cost)
      : null;
  }

  /**
   * @returns `null` if other nodes could not be told in time: the reservation is settled here, and can be settled again
   */
  private async settleHere(clientId: string, id: string, cost: number): Promise<Settled | null> {
    const { clock, table, reservations, replicator, acknowledger } = this.parts;
    const nowMs = clock.nowMs();
    const client = table.openKnown(clientId);
    const reservation = client && reservations.settle(client, id, cost, nowMs);
    if (client === undefined || reservation === undefined) return { kind: 'unknown' };
    const { rules, cost: reserved, settled } = reservation;
    const { limit, remaining, resetMs } = decide(client, { rules, cost: 1, peek: true }, nowMs);
    table.close(client, nowMs);
    replicator.changed(client);
    if (acknowledger !== undefined && !(await acknowledger.acknowledge(clientId))) return null;
    return { kind: 'settled', settlement: { cost: settled!, reserved, limit, remaining, resetMs } };
  }
}

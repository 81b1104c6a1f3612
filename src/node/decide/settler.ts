import type { Clock, Timers } from '../../lib/system.js';
import { decide } from '../../limits/decide/decide.js';
import { callOwner, type OwnerCall, type Router } from '../../membership/route.js';
import type { Settled, Ask } from '../../protocol/messages.js';
import type { Confirmer } from '../../replication/confirmer.js';
import type { Replicator } from '../../replication/replicator.js';
import type { BucketTable } from '../../state/bucket-table.js';
import type { Reservations } from '../../state/reservations.js';

const UNAVAILABLE: Settled = { kind: 'unavailable' };

/** Replaces reserved costs by the real ones. */
export class Settler {
  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly table: BucketTable;
      readonly reservations: Reservations;
      readonly replicator: Pick<Replicator, 'changed'>;
      readonly ask: Ask;
      readonly router: Router;
      readonly confirmer: Confirmer;
      readonly timeoutMs: number;
    },
  ) {}

  /** Replaces a reserved cost by the real one, once, whichever node is asked and however often. */
  async settle(clientId: string, reservation: string, cost: number): Promise<Settled> {
    const call: OwnerCall<Settled> = {
      key: clientId,
      here: async () => (await this.settleHere(clientId, reservation, cost)) ?? UNAVAILABLE,
      message: { kind: 'settle', clientId, reservation, cost },
      outcome: (answer) => (answer.kind === 'settled' ? (answer.settled ?? undefined) : undefined),
    };
    return (await callOwner(this.parts, call, this.parts.timeoutMs)) ?? UNAVAILABLE;
  }

  /** The same for a peer that takes this node for the decider; `null` when it is not, or cannot make the cost count. */
  async settleForPeer(clientId: string, reservation: string, cost: number): Promise<Settled | null> {
    return this.parts.router.decides(clientId) ? this.settleHere(clientId, reservation, cost) : null;
  }

  /**
   * @returns `null` if other nodes could not be told in time: the reservation is settled here, and can be settled again
   */
  private async settleHere(clientId: string, id: string, cost: number): Promise<Settled | null> {
    const { clock, table, reservations, replicator, confirmer } = this.parts;
    const nowMs = clock.nowMs();
    const client = table.openKnown(clientId);
    const reservation = client && reservations.settle(client, id, cost, nowMs);
    if (client === undefined || reservation === undefined) return { kind: 'unknown' };
    const { rules, cost: reserved, settled } = reservation;
    const { limit, remaining, resetMs } = decide(client, { rules, cost: 1, peek: true }, nowMs);
    table.close(client, nowMs);
    replicator.changed(client);
    if (confirmer.isStrict && !(await confirmer.confirm([clientId], 'all')).has(clientId)) return null;
    return { kind: 'settled', settlement: { cost: settled!, reserved, limit, remaining, resetMs } };
  }
}

import { decide } from '../../limits/decide/decide.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Acknowledger } from '../../replication/acknowledger.js';
import type { BucketTable } from '../../state/bucket-table.js';
import { callOwner } from '../../membership/call-owner.js';
import type { OwnerCall } from '../../membership/call-owner.js';
import type { Limiter } from './limiter.js';
import type { Settled } from '../../protocol/messages.js';
import type { Ask } from '../../protocol/peer-transport.js';
import type { Clock, Timers } from '../../lib/clock.js';
import type { Replicator } from '../../replication/replicator.js';
import type { Reservations } from '../../state/reservations.js';

export interface Settler {
  /** Replaces a reserved cost by the real one, once, whichever node is asked and however often. */
  settle(clientId: string, reservation: string, cost: number): Promise<Settled>;
  /** The same for a peer that takes this node for the decider; `null` when it is not, or cannot make the cost count. */
  settleForPeer(clientId: string, reservation: string, cost: number): Promise<Settled | null>;
}

interface SettlerDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly table: BucketTable;
  readonly reservations: Reservations;
  readonly replicator: Pick<Replicator, 'changed'>;
  readonly ask: Ask;
  readonly decider: (clientId: string) => NodeId | undefined;
  readonly limiter: Pick<Limiter, 'isHeld'>;
  /** In strict mode: a cost counts only once all that may decide next know of it. */
  readonly acknowledger: Acknowledger | undefined;
}

const UNAVAILABLE: Settled = { kind: 'unavailable' };

export function createSettler(deps: SettlerDeps, { self, timeoutMs }: { self: NodeId; timeoutMs: number }): Settler {
  const { clock, timers, table, reservations, replicator, ask, decider, limiter, acknowledger } = deps;

  /**
   * @returns `null` if other nodes could not be told in time: the reservation is settled here, and can be settled again
   */
  async function settleHere(clientId: string, id: string, cost: number): Promise<Settled | null> {
    const nowMs = clock.nowMs();
    const client = table.openKnown(clientId);
    const reservation = client && reservations.settle(client, id, cost, nowMs);
    if (client === undefined || reservation === undefined) return { kind: 'unknown' };
    const { rules, cost: reserved, settled } = reservation;
    const peek = { rules, cost: 1, peek: true };
    const { limit, remaining, resetMs } = decide(client, peek, nowMs);
    table.close(client, nowMs);
    replicator.changed(client);
    if (acknowledger !== undefined && !(await acknowledger.acknowledge(clientId))) return null;
    return { kind: 'settled', settlement: { cost: settled!, reserved, limit, remaining, resetMs } };
  }

  return {
    async settle(clientId, reservation, cost) {
      const call: OwnerCall<Settled> = {
        key: clientId,
        here: () =>
          limiter.isHeld() ? undefined : settleHere(clientId, reservation, cost).then((one) => one ?? UNAVAILABLE),
        message: { kind: 'settle', clientId, reservation, cost },
        outcome: (answer) => (answer.kind === 'settled' ? (answer.settled ?? undefined) : undefined),
      };
      return (await callOwner({ timers, self, ask, decider }, call, timeoutMs)) ?? UNAVAILABLE;
    },
    async settleForPeer(clientId, reservation, cost) {
      return decider(clientId) === self && !limiter.isHeld() ? settleHere(clientId, reservation, cost) : null;
    },
  };
}

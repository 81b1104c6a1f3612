import { ringChecksum, type NodeId, type Placed, type Ring } from '../limits/ring/ring.js';
import { createRing } from '../limits/ring/rings.js';
import type { BucketTable } from '../state/bucket-table.js';
import { MAX_COPIES_BYTES, type Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import type { MemberRecord, PeerAnswer } from '../protocol/messages.js';
import type { Replicator } from './replicator.js';

/** Bounds of one chunk, in clients handed over and in clients examined, so that no answer takes long. */
const CHUNK = 500;
const LOOK = 2_000;

interface Session {
  /** The ring with the joiner and without members that are gone. */
  readonly ring: Ring;
  /** Version of the ring from which it was made. */
  readonly fromVersion: number;
  readonly total: number;
  /** Next place of the table to examine, downwards. */
  cursor: number;
  chunk: number;
  /** The answer to `chunk`, kept in case it is lost and requested again. */
  answer: PeerAnswer;
}

export interface Donor {
  /**
   * Hands over the next clients that the joining member will own or hold copies of.
   * @param chunk 0 begins anew; a chunk that is requested again is answered again
   * @param gone members that refuse connections, in whose place the joiner will decide
   */
  handoff(joiner: NodeId, chunk: number, gone: readonly NodeId[]): PeerAnswer;
  /**
   * Admits the sender, a member that has all its clients, to this node's ring, and hands over what changed since. From then on, this
   * node does not decide for them. If one answer does not hold all, the rest goes with the copies of changes. The member
   * asks again until there is no more.
   */
  admit(sender: NodeId, record: MemberRecord, ring: string, members: readonly MemberRecord[]): PeerAnswer;
  /** Ends handoffs to members that join no more. */
  tidy(): void;
  handedClients(): number;
}

/** The giving side of a join. Changes during a handoff reach the joiner by replication. */
export function createDonor(
  deps: { table: BucketTable; copies: Copies; membership: Membership; replicator: Replicator },
  { replicas }: { replicas: number },
): Donor {
  const { table, copies, membership, replicator } = deps;
  const sessions = new Map<NodeId, Session>();
  let handedClients = 0;

  /** The joiner gets copies too: after the change of the ring the owner may die before it sends them. */
  function willHold(ring: Ring, joiner: NodeId, client: Placed): boolean {
    return ring.owner(client) === joiner || ring.replicas(client, replicas).includes(joiner);
  }

  function begin(joiner: NodeId, gone: readonly NodeId[]): Session {
    const present = membership.ring().members.filter((id) => !gone.includes(id));
    const ring = createRing([...present, joiner], membership.ring());
    const total = table.size();
    const clients = copies.createBatch().take();
    const answer: PeerAnswer = { kind: 'handed', clients, more: true, total };
    replicator.addJoiner(joiner, (client) => willHold(ring, joiner, client));
    return { ring, fromVersion: membership.ringVersion(), total, cursor: total - 1, chunk: -1, answer };
  }

  function nextChunk(session: Session, joiner: NodeId): PeerAnswer {
    const batch = copies.createBatch();
    for (
      let looked = 0;
      looked < LOOK && batch.clients < CHUNK && batch.bytes < MAX_COPIES_BYTES && session.cursor >= 0;
      looked += 1, session.cursor -= 1
    ) {
      const client = table.at(session.cursor);
      if (client === undefined || !willHold(session.ring, joiner, client)) continue;
      batch.add(client, true);
    }
    handedClients += batch.clients;
    return { kind: 'handed', clients: batch.take(), more: session.cursor >= 0, total: session.total };
  }

  return {
    handoff(joiner, chunk, gone) {
      let session = sessions.get(joiner);
      if (session === undefined || chunk === 0 || session.fromVersion !== membership.ringVersion()) {
        // This node has no handoff to go on with, so the joiner must begin anew.
        if (chunk !== 0) return { kind: 'not-yet', members: membership.routedRecords() };
        sessions.set(joiner, (session = begin(joiner, gone)));
      }
      if (chunk !== session.chunk) {
        session.chunk = chunk;
        session.answer = nextChunk(session, joiner);
      }
      return session.answer;
    },
    admit(sender, record, ring, members) {
      // A member speaks for itself alone.
      if (record.id !== sender) return { kind: 'not-yet', members: [] };
      membership.learn(members, { host: record.id });
      const joiner = record.id;
      const others = [...membership.ring().members, membership.self().id].filter((id) => id !== joiner);
      if (ringChecksum(others) !== ring) return { kind: 'not-yet', members: membership.routedRecords() };
      // Under another ring, the joiner collected other clients.
      const isRepeat = membership.stateOf(joiner) === 'active';
      if (!isRepeat && sessions.get(joiner)?.fromVersion !== membership.ringVersion()) {
        return { kind: 'not-yet', members: membership.routedRecords() };
      }
      // Once admitted, the joiner owns the clients that it owns in this ring, and they change here no more.
      const ringWithJoiner = sessions.get(joiner)?.ring ?? membership.ring();
      const unsent = replicator.unsent(joiner, (client) => ringWithJoiner.owner(client) === joiner);
      const { more } = unsent;
      const batch = isRepeat && more ? copies.createBatch() : unsent.copies;
      if (!membership.admit(record)) return { kind: 'not-yet', members: membership.routedRecords() };
      const total = batch.clients;
      handedClients += total;
      sessions.delete(joiner);
      replicator.dropJoiner(joiner);
      return { kind: 'handed', clients: batch.take(), more, total };
    },
    tidy() {
      for (const joiner of sessions.keys()) {
        if (membership.stateOf(joiner) === 'joining') continue;
        sessions.delete(joiner);
        replicator.dropJoiner(joiner);
      }
    },
    handedClients: () => handedClients,
  };
}

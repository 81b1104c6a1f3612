import { createRing, ringChecksum } from '../../core/ring.js';
import type { NodeId, Ring } from '../../core/ring.js';
import type { BucketTable } from '../state/bucket-table.js';
import type { Copies } from '../state/copies.js';
import type { Membership } from '../membership/membership.js';
import type { ClientSnapshot, MemberRecord, PeerAnswer } from '../messages.js';
import type { Replicator } from '../replication/replicator.js';
import { MAX_COPIES_BYTES, weightOf } from '../state/weight.js';

/** Clients in one chunk, and clients looked at for it: each bounds the time that one answer takes. */
const CHUNK = 500;
const LOOK = 2_000;

interface Session {
  /** The ring with the joiner in it and without who is gone, and the version of the one without that it was made from. */
  readonly ring: Ring;
  readonly fromVersion: number;
  readonly total: number;
  /** Next place of the table to look at, downwards. */
  cursor: number;
  chunk: number;
  /** The answer to `chunk`, in case it is lost and asked for again. */
  answer: PeerAnswer;
}

export interface Donor {
  /** The next clients that the joining member will own or hold copies of, as some are gone. Chunk 0 begins anew. */
  handoff(joiner: NodeId, chunk: number, gone: readonly NodeId[]): PeerAnswer;
  /** Lets a member that has all of them into the ring, with what changed since; from then on this node does not decide for them. */
  admit(record: MemberRecord, ring: string, members: readonly MemberRecord[]): PeerAnswer;
  /** Forgets handoffs to members that are gone. */
  tidy(): void;
  readonly handedClients: number;
}

/** The giving side of a join. What changes while it goes on follows by replication, which the session adds the joiner to. */
export function createDonor(
  deps: { table: BucketTable; copies: Copies; membership: Membership; replicator: Replicator },
  { replicas }: { replicas: number },
): Donor {
  const { table, copies, membership, replicator } = deps;
  const sessions = new Map<NodeId, Session>();
  let handedClients = 0;

  /** A copy is not there soon enough when it follows the change of the ring: the owner may die before. */
  function willHold(ring: Ring, joiner: NodeId, clientId: string): boolean {
    return ring.owner(clientId) === joiner || ring.replicas(clientId, replicas).includes(joiner);
  }

  function begin(joiner: NodeId, gone: readonly NodeId[]): Session {
    const present = membership.ring.members.filter((id) => !gone.includes(id));
    const ring = createRing([...present, joiner], { cachedClients: 1, cachedSuccessors: replicas });
    const total = table.size;
    const answer: PeerAnswer = { kind: 'handed', clients: [], more: true, total };
    replicator.addJoiner(joiner, (clientId) => willHold(ring, joiner, clientId));
    return { ring, fromVersion: membership.ringVersion, total, cursor: total - 1, chunk: -1, answer };
  }

  function nextChunk(session: Session, joiner: NodeId): PeerAnswer {
    const clients: ClientSnapshot[] = [];
    let bytes = 0;
    for (
      let looked = 0;
      looked < LOOK && clients.length < CHUNK && bytes < MAX_COPIES_BYTES && session.cursor >= 0;
      looked += 1, session.cursor -= 1
    ) {
      const client = table.at(session.cursor);
      if (client === undefined || !willHold(session.ring, joiner, client.id)) continue;
      const snapshot = copies.of(client, true);
      if (snapshot === undefined) continue;
      clients.push(snapshot);
      bytes += weightOf(snapshot);
    }
    handedClients += clients.length;
    return { kind: 'handed', clients, more: session.cursor >= 0, total: session.total };
  }

  return {
    handoff(joiner, chunk, gone) {
      let session = sessions.get(joiner);
      if (session === undefined || chunk === 0 || session.fromVersion !== membership.ringVersion) {
        // A joiner that goes on where this node has no such session must begin anew.
        if (chunk !== 0) return { kind: 'not-yet', members: membership.routedRecords() };
        sessions.set(joiner, (session = begin(joiner, gone)));
      }
      if (chunk !== session.chunk) {
        session.chunk = chunk;
        session.answer = nextChunk(session, joiner);
      }
      return session.answer;
    },
    admit(record, ring, members) {
      membership.learn(members, { host: record.id });
      const joiner = record.id;
      const others = [...membership.ring.members, membership.self.id].filter((id) => id !== joiner);
      if (ringChecksum(others) !== ring) return { kind: 'not-yet', members: membership.routedRecords() };
      // What it collected under another ring was another share.
      if (membership.stateOf(joiner) !== 'active' && sessions.get(joiner)?.fromVersion !== membership.ringVersion) {
        return { kind: 'not-yet', members: membership.routedRecords() };
      }
      const clients = replicator.unsent(joiner);
      if (!membership.admit(record)) return { kind: 'not-yet', members: membership.routedRecords() };
      handedClients += clients.length;
      sessions.delete(joiner);
      replicator.dropJoiner(joiner);
      return { kind: 'handed', clients, more: false, total: clients.length };
    },
    tidy() {
      for (const joiner of sessions.keys()) {
        if (membership.stateOf(joiner) === 'joining') continue;
        sessions.delete(joiner);
        replicator.dropJoiner(joiner);
      }
    },
    get handedClients() {
      return handedClients;
    },
  };
}

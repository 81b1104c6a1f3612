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

/** The giving side of a join. Changes during a handoff reach the joiner by replication. */
export class Donor {
  private readonly sessions = new Map<NodeId, Session>();
  private handed = 0;

  constructor(
    private readonly table: BucketTable,
    private readonly copies: Copies,
    private readonly membership: Membership,
    private readonly replicator: Replicator,
    private readonly replicas: number,
  ) {}

  /**
   * Hands over the next clients that the joining member will own or hold copies of.
   * @param chunk 0 begins anew; a chunk that is requested again is answered again
   * @param gone members that refuse connections, in whose place the joiner will decide
   */
  handoff(joiner: NodeId, chunk: number, gone: readonly NodeId[]): PeerAnswer {
    let session = this.sessions.get(joiner);
    if (session === undefined || chunk === 0 || session.fromVersion !== this.membership.ringVersion()) {
      // This node has no handoff to go on with, so the joiner must begin anew.
      if (chunk !== 0) return { kind: 'not-yet', members: this.membership.routedRecords() };
      this.sessions.set(joiner, (session = this.begin(joiner, gone)));
    }
    if (chunk !== session.chunk) {
      session.chunk = chunk;
      session.answer = this.nextChunk(session, joiner);
    }
    return session.answer;
  }

  /**
   * Accepts the sender, a member that has all its clients, to this node's ring, and hands over what changed since. From then on, this
   * node does not decide for them. If one answer does not hold all, the rest goes with the copies of changes. The member
   * asks again until there is no more.
   */
  accept(sender: NodeId, record: MemberRecord, ring: string, members: readonly MemberRecord[]): PeerAnswer {
    // A member speaks for itself alone.
    if (record.id !== sender) return { kind: 'not-yet', members: [] };
    this.membership.learn(members, { host: record.id });
    const joiner = record.id;
    const others = [...this.membership.ring().members, this.membership.self().id].filter((id) => id !== joiner);
    if (ringChecksum(others) !== ring) return { kind: 'not-yet', members: this.membership.routedRecords() };
    // Under another ring, the joiner collected other clients.
    const isRepeat = this.membership.stateOf(joiner) === 'active';
    if (!isRepeat && this.sessions.get(joiner)?.fromVersion !== this.membership.ringVersion()) {
      return { kind: 'not-yet', members: this.membership.routedRecords() };
    }
    // Once accepted, the joiner owns the clients that it owns in this ring, and they change here no more.
    const ringWithJoiner = this.sessions.get(joiner)?.ring ?? this.membership.ring();
    const unsent = this.replicator.unsent(joiner, (client) => ringWithJoiner.owner(client) === joiner);
    const { more } = unsent;
    const batch = isRepeat && more ? this.copies.createBatch() : unsent.copies;
    if (!this.membership.accept(record)) return { kind: 'not-yet', members: this.membership.routedRecords() };
    const total = batch.clients;
    this.handed += total;
    this.sessions.delete(joiner);
    this.replicator.dropJoiner(joiner);
    return { kind: 'handed', clients: batch.take(), more, total };
  }

  /** Ends handoffs to members that join no more. */
  tidy(): void {
    for (const joiner of this.sessions.keys()) {
      if (this.membership.stateOf(joiner) === 'joining') continue;
      this.sessions.delete(joiner);
      this.replicator.dropJoiner(joiner);
    }
  }

  handedClients(): number {
    return this.handed;
  }

  /** The joiner gets copies too: after the change of the ring the owner may die before it sends them. */
  private willHold(ring: Ring, joiner: NodeId, client: Placed): boolean {
    return ring.owner(client) === joiner || ring.replicas(client, this.replicas).includes(joiner);
  }

  private begin(joiner: NodeId, gone: readonly NodeId[]): Session {
    const present = this.membership.ring().members.filter((id) => !gone.includes(id));
    const ring = createRing([...present, joiner], this.membership.ring());
    const total = this.table.size();
    const clients = this.copies.createBatch().take();
    const answer: PeerAnswer = { kind: 'handed', clients, more: true, total };
    this.replicator.addJoiner(joiner, (client) => this.willHold(ring, joiner, client));
    return { ring, fromVersion: this.membership.ringVersion(), total, cursor: total - 1, chunk: -1, answer };
  }

  private nextChunk(session: Session, joiner: NodeId): PeerAnswer {
    const batch = this.copies.createBatch();
    for (
      let looked = 0;
      looked < LOOK && batch.clients < CHUNK && batch.bytes < MAX_COPIES_BYTES && session.cursor >= 0;
      looked += 1, session.cursor -= 1
    ) {
      const client = this.table.at(session.cursor);
      if (client === undefined || !this.willHold(session.ring, joiner, client)) continue;
      batch.add(client, true);
    }
    this.handed += batch.clients;
    return { kind: 'handed', clients: batch.take(), more: session.cursor >= 0, total: session.total };
  }
}

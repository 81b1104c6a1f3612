import { growingRing } from '../limits/ring/rings.js';
import type { NodeId } from '../limits/ring/ring.js';
import { type Membership, changeRecord } from './membership.js';
import type {
  Envelope,
  MemberRecord,
  PeerAnswer,
  PeerMessage,
  Sender,
  Ask,
  PeerTransport,
} from '../protocol/messages.js';
import type { Clock, Timers } from '../lib/system.js';
import { inTurns } from '../lib/turns.js';
import type { Probing } from './probing.js';

/** When an answer names more members that are new to this node, their ring is made in turns first: each member takes 1 ms. */
const MAX_UNKNOWN = 4;
/** A heartbeat waits this part of the suspicion time for its answer: as long as others wait before they act for a member. */
const HEARTBEAT_TIMEOUT = 0.5;
/** Other members are asked about a member that was silent for this many beats. */
const LATE_BEATS = 2;

/** Exchanges messages with peers. Every message and answer is a sign of life of its sender. */
export class PeerRpc {
  /** For each member: when it was last heard, and its view then. */
  private readonly exchanged = new Map<NodeId, { atMs: number; view: string }>();
  private readonly heartbeating = new Set<NodeId>();
  private readonly duplicates = new DuplicateIds();
  private lastSender: Sender | undefined;
  private closed = false;
  private readonly lateMs: number;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly membership: Membership;
      readonly transport: PeerTransport;
      readonly probing: Probing;
      /** Returns the digest of the policies in force on this node. */
      readonly policiesDigest: () => string;
      /** Called for each member that has other policies in force. */
      readonly heardPolicies: (id: NodeId, digest: string) => void;
      /** Called when another node has heard a second process with the id of this one. */
      readonly heardDuplicate: () => void;
      readonly suspectAfterMs: number;
      readonly beatMs: number;
    },
  ) {
    this.lateMs = parts.beatMs * LATE_BEATS;
  }

  /** Sends a message, and notes what its result says about the peer. */
  readonly ask: Ask = async (to, body, timeoutMs) => {
    const { membership, probing } = this.parts;
    const sent = this.sender();
    const lastHeard = this.exchanged.get(to);
    const askedAtMs = this.parts.clock.nowMs();
    membership.messageSent(to);
    const result = await this.parts.transport.send(to, { sender: sent, body }, timeoutMs);
    // A message that came meanwhile may be from after the refusal: the peer may listen again.
    if (result.kind === 'refused' && this.exchanged.get(to) === lastHeard) membership.connectionRefused(to);
    if (result.kind !== 'answer') return { kind: result.kind };
    const { sender: answerer, body: answer } = result.answer;
    // Another node has this address now, so its answer does not count. A seed, which is no member, may have another
    // name.
    if (answerer.from.id !== to && membership.stateOf(to) !== undefined) return { kind: 'broken' };
    this.noteSender(answerer, answerer.from.id === to ? askedAtMs : undefined);
    const { view } = answerer;
    const hasMembers = 'members' in answer;
    if (hasMembers) {
      const complete = answer.kind === 'members' && view !== sent.view;
      const from = answer.kind === 'not-yet' ? { host: to } : complete ? { view } : undefined;
      if (answer.members.some((record) => isDuplicate(record, membership.self()))) this.parts.heardDuplicate();
      if (this.countUnknown(answer.members) > MAX_UNKNOWN) await this.prepareRingWith(answer.members);
      membership.learn(answer.members, from);
      this.sendUrgent();
    }
    if (membership.isBehind(view) && body.kind !== 'heartbeat' && (probing.fetchesViews || !hasMembers))
      this.heartbeat(answerer.from.id);
    return { kind: 'answer', body: answer };
  };

  /** Notes that a message of a member has arrived. */
  messageReceived(sender: Sender): void {
    const { from, view } = sender;
    // Only a duplicate still joins. So nearly all messages need no second record of their sender.
    if (from.state === 'joining') this.duplicates.received(from, this.parts.membership.recordsOf([from.id])[0]);
    this.noteSender(sender);
    if (this.parts.probing.fetchesViews && this.parts.membership.isBehind(view)) this.heartbeat(from.id);
  }

  /** Wraps the answer to a message. */
  async reply(answer: PeerAnswer | Promise<PeerAnswer>): Promise<Envelope<PeerAnswer>> {
    // A list of members belongs to the view that it was made with, so the sender is taken at the same time.
    const sent = this.sender();
    if (!(answer instanceof Promise)) return { sender: sent, body: answer };
    const body = await answer;
    return { sender: this.sender(), body };
  }

  /** Takes the records of a heartbeat, and answers with those that its sender lacks. */
  answerHeartbeat({ from, view }: Sender, members: readonly MemberRecord[]): PeerAnswer {
    const { membership } = this.parts;
    membership.learn(members);
    this.sendUrgent();
    // Without regular heartbeats, this node has no opinion of these members before it has asked them itself.
    if (this.parts.probing.fetchesViews)
      for (const { id } of members) if (id !== membership.self().id) this.heartbeat(id);
    const agreed = view === membership.view();
    const answered = agreed ? membership.recordsOf(members.map(({ id }) => id)) : membership.records();
    return { kind: 'members', members: [...answered, ...this.duplicates.takeFor(from)] };
  }

  /** Sends a heartbeat, unless one is under way. */
  heartbeat(to: NodeId): void {
    if (!this.heartbeating.has(to)) void this.sendHeartbeat(to, this.parts.membership.silent(this.lateMs));
  }

  /** Asks a node for the records that this one lacks, and learns nothing from them. @returns none without an answer */
  async recordsAt(to: NodeId, timeoutMs: number): Promise<readonly MemberRecord[]> {
    const message: PeerMessage = { kind: 'heartbeat', members: [] };
    const result = await this.parts.transport.send(to, { sender: this.sender(), body: message }, timeoutMs);
    return result.kind === 'answer' && 'members' in result.answer.body ? result.answer.body.members : [];
  }

  /** Tells these nodes that this process has the id of a member. They tell that member, and nothing else changes. */
  async tellOfDuplicate(member: MemberRecord, ids: readonly NodeId[], timeoutMs: number): Promise<void> {
    const told: Envelope<PeerMessage> = {
      sender: { ...this.sender(), from: duplicateOf(member) },
      body: { kind: 'heartbeat', members: [] },
    };
    await Promise.all(ids.map((id) => this.parts.transport.send(id, told, timeoutMs)));
  }

  /** Tells those members that are not down of this node's state, and waits for their answers. */
  async tell(ids: readonly NodeId[]): Promise<void> {
    const { membership, suspectAfterMs } = this.parts;
    const others = ids.filter((id) => id !== membership.self().id && !membership.isDown(id));
    await Promise.all(others.map((id) => this.ask(id, { kind: 'heartbeat', members: [] }, suspectAfterMs)));
  }

  /** Sends the heartbeats that are due; to be called each `beatMs`. */
  beat(): void {
    const { membership } = this.parts;
    const { exchanged } = this;
    for (const id of exchanged.keys()) if (membership.stateOf(id) === undefined) exchanged.delete(id);
    const late = membership.silent(this.lateMs);
    const silent = new Set(late.map(({ id }) => id));
    for (const id of this.parts.probing.targets(late, (one) => exchanged.get(one)?.atMs))
      if (silent.has(id) || !this.heartbeating.has(id)) void this.sendHeartbeat(id, late);
    void this.heartbeatSeeds();
  }

  close(): void {
    this.closed = true;
  }

  private async sendHeartbeat(to: NodeId, late: readonly MemberRecord[]): Promise<void> {
    this.heartbeating.add(to);
    const agreed = this.exchanged.get(to)?.view === this.parts.membership.view();
    const members = this.parts.probing.recordsFor(agreed, late);
    await this.ask(to, { kind: 'heartbeat', members }, Math.ceil(this.parts.suspectAfterMs * HEARTBEAT_TIMEOUT));
    this.heartbeating.delete(to);
  }

  /** Sends heartbeats even while others are under way, which may be lost. */
  private sendUrgent(): void {
    const urgent = this.parts.probing.urgent();
    if (urgent.length === 0) return;
    const late = this.parts.membership.silent(this.lateMs);
    for (const id of urgent) void this.sendHeartbeat(id, late);
  }

  private async heartbeatSeeds(): Promise<void> {
    for (const id of await this.parts.probing.seeds()) if (!this.closed) this.heartbeat(id);
  }

  private countUnknown(members: readonly MemberRecord[]): number {
    let count = 0;
    for (const { id } of members) if (this.parts.membership.stateOf(id) === undefined) count += 1;
    return count;
  }

  private async prepareRingWith(members: readonly MemberRecord[]): Promise<void> {
    const ring = this.parts.membership.ring();
    const active = members.filter(({ state }) => state === 'active').map(({ id }) => id);
    await inTurns(growingRing([...ring.members, ...active], ring), this.parts.timers);
  }

  /** Returns the same object until this node or its view has changed, as what is written of it is kept. */
  private sender(): Sender {
    const [from, view, policies] = [
      this.parts.membership.self(),
      this.parts.membership.view(),
      this.parts.policiesDigest(),
    ];
    const last = this.lastSender;
    if (last?.from === from && last.view === view && last.policies === policies) return last;
    return (this.lastSender = { from, view, policies });
  }

  private noteSender({ from, view, policies }: Sender, askedAtMs?: number): void {
    const nowMs = this.parts.clock.nowMs();
    this.parts.membership.messageReceived(from, view, nowMs, askedAtMs);
    this.exchanged.set(from.id, { atMs: nowMs, view });
    if (policies !== this.parts.policiesDigest()) this.parts.heardPolicies(from.id, policies);
  }
}

/** Beats by which a duplicate is ahead of the member whose id it has. The member counts ten a second. */
const AHEAD = 2 ** 40;

/**
 * Makes a record that no process of this id has: it still joins in an incarnation that is active, and is beats ahead.
 * So it changes nothing that nodes know of the member, and shows that a second process has its id.
 */
function duplicateOf(member: MemberRecord): MemberRecord {
  return changeRecord(member, { state: 'joining', beat: member.beat + AHEAD });
}

/** Whether a record comes from a second process with the id of this member. */
function isDuplicate(record: MemberRecord, member: MemberRecord): boolean {
  return (
    record.id === member.id &&
    record.incarnation === member.incarnation &&
    record.state === 'joining' &&
    member.state !== 'joining' &&
    record.beat > member.beat
  );
}

/** Tells a member of a second process with its id, which other nodes can reach under its address, and it cannot. */
class DuplicateIds {
  private readonly records = new Map<NodeId, MemberRecord>();

  /** Takes the record of the sender of a message. @param known the record of its id on this node */
  received(from: MemberRecord, known: MemberRecord | undefined): void {
    // Only a member has one, so there are no more of them than members.
    if (known !== undefined && isDuplicate(from, known)) this.records.set(from.id, from);
  }

  /** Returns the record of the duplicate of which a member has yet to hear, once. */
  takeFor(member: MemberRecord): readonly MemberRecord[] {
    const duplicate = this.records.get(member.id);
    if (duplicate === undefined || member.state === 'joining') return [];
    this.records.delete(member.id);
    return isDuplicate(duplicate, member) ? [duplicate] : [];
  }
}

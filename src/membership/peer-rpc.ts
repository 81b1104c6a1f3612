import { prepareRing } from '../limits/ring/rings.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from './membership.js';
import type { Envelope, MemberRecord, PeerAnswer, PeerMessage, Sender } from '../protocol/messages.js';
import type { Ask, PeerReply, PeerTransport } from '../protocol/peer-transport.js';
import type { Clock, Timers } from '../lib/clock.js';
import type { Probing } from './probing.js';
import { createRivals, rivalOf } from './rivals.js';

/** When an answer names more members that are new to this node, their ring is made in slices first: each member takes 1 ms. */
const MAX_UNKNOWN = 4;
/** Other members are asked about a member that was silent for this many beats. */
const LATE_BEATS = 2;

/** Exchanges messages with peers. Every message and answer is a sign of life of its sender. */
export interface PeerRpc {
  /** Sends a message, and notes what its result says about the peer. */
  readonly ask: Ask;
  /** Notes that a message of a member has arrived. */
  messageReceived(sender: Sender): void;
  /** Wraps the answer to a message. */
  reply(answer: PeerAnswer | Promise<PeerAnswer>): Promise<Envelope<PeerAnswer>>;
  /** Takes the records of a heartbeat, and answers with those that its sender lacks. */
  answerHeartbeat(sender: Sender, members: readonly MemberRecord[]): PeerAnswer;
  /** Sends a heartbeat, unless one is under way. */
  readonly heartbeat: (to: NodeId) => void;
  /** Asks a node for the records that this one lacks, and learns nothing from them. @returns none without an answer */
  recordsAt(to: NodeId, timeoutMs: number): Promise<readonly MemberRecord[]>;
  /** Tells these nodes that this process has the id of a member. They tell that member, and nothing else changes. */
  tellRival(member: MemberRecord, ids: readonly NodeId[], timeoutMs: number): Promise<void>;
  /** Sends records to those members that are not down, and waits for their answers. */
  tell(ids: readonly NodeId[], members: readonly MemberRecord[]): Promise<void>;
  /** Sends the heartbeats that are due; to be called each `beatMs`. */
  beat(): void;
  close(): void;
}

interface PeerRpcDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly membership: Membership;
  readonly transport: PeerTransport;
  readonly probing: Probing;
  /** Digest of the policies in force on this node. */
  readonly policiesDigest: () => string;
  /** Called for each member that has other policies in force. */
  readonly heardPolicies: (id: NodeId, digest: string) => void;
  /** Called when another node has heard a second process with the id of this one. */
  readonly heardRival: () => void;
}

interface PeerRpcOptions {
  readonly suspectAfterMs: number;
  readonly beatMs: number;
}

export function createPeerRpc(deps: PeerRpcDeps, { suspectAfterMs, beatMs }: PeerRpcOptions): PeerRpc {
  const { clock, timers, membership, transport, probing, policiesDigest, heardPolicies, heardRival } = deps;
  const lateMs = beatMs * LATE_BEATS;
  const heartbeatTimeoutMs = Math.ceil(suspectAfterMs * probing.timeoutPart);
  /** For each member: when it was last heard, and its view then. */
  const exchanged = new Map<NodeId, { atMs: number; view: string }>();
  const heartbeating = new Set<NodeId>();
  const rivals = createRivals();
  let lastSender: Sender | undefined;
  let closed = false;

  async function ask(to: NodeId, body: PeerMessage, timeoutMs: number): Promise<PeerReply> {
    const sent = sender();
    const lastHeard = exchanged.get(to);
    const askedAtMs = clock.nowMs();
    membership.messageSent(to);
    const result = await transport.send(to, { sender: sent, body }, timeoutMs);
    // A message that came meanwhile may be from after the refusal: the peer may listen again.
    if (result.kind === 'refused' && exchanged.get(to) === lastHeard) membership.connectionRefused(to);
    if (result.kind !== 'answer') return { kind: result.kind };
    const { sender: answerer, body: answer } = result.answer;
    // Another node has this address now, so its answer does not count. A seed, which is no member, may have another
    // name.
    if (answerer.from.id !== to && membership.stateOf(to) !== undefined) return { kind: 'broken' };
    noteSender(answerer, answerer.from.id === to ? askedAtMs : undefined);
    const { view } = answerer;
    const hasMembers = 'members' in answer;
    if (hasMembers) {
      const complete = answer.kind === 'members' && view !== sent.view;
      const from = answer.kind === 'not-yet' ? { host: to } : complete ? { view } : undefined;
      if (rivals.isNamed(answer.members, membership.self())) heardRival();
      if (countUnknown(answer.members) > MAX_UNKNOWN) await prepareRingWith(answer.members);
      membership.learn(answer.members, from);
      sendUrgent();
    }
    if (membership.isBehind(view) && body.kind !== 'heartbeat' && (probing.fetchesViews || !hasMembers))
      void heartbeat(answerer.from.id);
    return { kind: 'answer', body: answer };
  }

  function countUnknown(members: readonly MemberRecord[]): number {
    let count = 0;
    for (const { id } of members) if (membership.stateOf(id) === undefined) count += 1;
    return count;
  }

  function prepareRingWith(members: readonly MemberRecord[]): Promise<void> {
    const ring = membership.ring();
    const active = members.filter(({ state }) => state === 'active').map(({ id }) => id);
    return prepareRing([...ring.members, ...active], ring, () => new Promise((resolve) => timers.soon(resolve)));
  }

  /** Returns the same object until this node or its view has changed, as what is written of it is kept. */
  function sender(): Sender {
    const [from, view, policies] = [membership.self(), membership.view(), policiesDigest()];
    if (lastSender?.from !== from || lastSender.view !== view || lastSender.policies !== policies)
      lastSender = { from, view, policies };
    return lastSender;
  }

  function noteSender({ from, view, policies }: Sender, askedAtMs?: number): void {
    const nowMs = clock.nowMs();
    membership.messageReceived(from, view, nowMs, askedAtMs);
    exchanged.set(from.id, { atMs: nowMs, view });
    if (policies !== policiesDigest()) heardPolicies(from.id, policies);
  }

  /** @param again whether to send it even while another one is under way, which may be lost */
  async function heartbeat(to: NodeId, late = membership.silent(lateMs), again = false): Promise<void> {
    if (heartbeating.has(to) && !again) return;
    heartbeating.add(to);
    const agreed = exchanged.get(to)?.view === membership.view();
    await ask(to, { kind: 'heartbeat', members: probing.recordsFor(agreed, late) }, heartbeatTimeoutMs);
    heartbeating.delete(to);
  }

  function sendUrgent(): void {
    const urgent = probing.urgent();
    if (urgent.length === 0) return;
    const late = membership.silent(lateMs);
    for (const id of urgent) void heartbeat(id, late, true);
  }

  async function heartbeatSeeds(): Promise<void> {
    for (const id of await probing.seeds()) if (!closed) void heartbeat(id);
  }

  return {
    ask,
    messageReceived(from) {
      // Only a rival still joins. So nearly all messages need no second record of their sender.
      if (from.from.state === 'joining') rivals.received(from.from, membership.recordsOf([from.from.id])[0]);
      noteSender(from);
      if (probing.fetchesViews && membership.isBehind(from.view)) void heartbeat(from.from.id);
    },
    async reply(answer) {
      // A list of members belongs to the view that it was made with, so the sender is taken at the same time.
      const sent = sender();
      if (!(answer instanceof Promise)) return { sender: sent, body: answer };
      const body = await answer;
      return { sender: sender(), body };
    },
    async recordsAt(to, timeoutMs) {
      const message: PeerMessage = { kind: 'heartbeat', members: [] };
      const result = await transport.send(to, { sender: sender(), body: message }, timeoutMs);
      return result.kind === 'answer' && 'members' in result.answer.body ? result.answer.body.members : [];
    },
    async tellRival(member, ids, timeoutMs) {
      const told: Envelope<PeerMessage> = {
        sender: { ...sender(), from: rivalOf(member) },
        body: { kind: 'heartbeat', members: [] },
      };
      await Promise.all(ids.map((id) => transport.send(id, told, timeoutMs)));
    },
    answerHeartbeat({ from, view }, members) {
      membership.learn(members);
      sendUrgent();
      // Without regular heartbeats, this node has no opinion of these members before it has asked them itself.
      if (probing.fetchesViews) for (const { id } of members) if (id !== membership.self().id) void heartbeat(id);
      const agreed = view === membership.view();
      const answered = agreed ? membership.recordsOf(members.map(({ id }) => id)) : membership.records();
      return { kind: 'members', members: [...answered, ...rivals.takeFor(from)] };
    },
    heartbeat: (to) => void heartbeat(to),
    async tell(ids, members) {
      const others = ids.filter((id) => id !== membership.self().id && !membership.isDown(id));
      await Promise.all(others.map((id) => ask(id, { kind: 'heartbeat', members }, suspectAfterMs)));
    },
    beat() {
      for (const id of exchanged.keys()) if (membership.stateOf(id) === undefined) exchanged.delete(id);
      const late = membership.silent(lateMs);
      const silent = new Set(late.map(({ id }) => id));
      for (const id of probing.targets(late, (one) => exchanged.get(one)?.atMs))
        void heartbeat(id, late, silent.has(id));
      void heartbeatSeeds();
    },
    close: () => (closed = true),
  };
}

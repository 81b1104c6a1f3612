import type { NodeId } from '../../core/ring.js';
import type { Membership } from './membership.js';
import type { Envelope, MemberRecord, PeerAnswer, PeerMessage, Sender } from '../messages.js';
import type { Ask, Asked, Clock, Discovery, PeerTransport } from '../ports.js';

/** The part of the suspicion time after which a heartbeat without an answer makes room for the next. */
const HEARTBEAT_PART = 0.3;
/** The same where heartbeats go only to those who are missed: even a slow answer must be heard. */
const PROBE_PART = 0.5;
/** The others, who may hear a member that this node does not, are asked about it when it is silent for so many heartbeats. */
const LATE_BEATS = 2;
/** Seeds that are no members are asked every so many heartbeats: two rings that do not know each other become one. */
const SEED_EVERY = 10;

/** What this node says to others: whatever it is, either side learns that the other lives. */
export interface PeerRpc {
  /** Sends a message, and notes what its end says about the peer. */
  readonly ask: Ask;
  /** What this node says of itself, with all that it sends. */
  sender(): Sender;
  /** Notes that a member was heard. */
  messageReceived(sender: Sender): void;
  /** What goes back to who sent a message. */
  reply(answer: PeerAnswer | Promise<PeerAnswer>): Promise<Envelope<PeerAnswer>>;
  /** Sends one heartbeat, unless one is under way. */
  readonly heartbeat: (to: NodeId) => void;
  /** Tells members that may be up of others, and waits for their answers. */
  tell(ids: readonly NodeId[], members: readonly MemberRecord[]): Promise<void>;
  /** Each `beatMs`: heartbeats to those with whom nothing else was exchanged, and now and then to the dead and to seeds. */
  beat(): void;
  close(): void;
}

interface PeerRpcDeps {
  readonly clock: Clock;
  readonly membership: Membership;
  readonly transport: PeerTransport;
  readonly discovery: Discovery;
  /** Digest of the policies that this node holds now. */
  readonly policiesDigest: () => string;
  /** Called for each that holds other policies. */
  readonly heardPolicies: (id: NodeId, digest: string) => void;
  /** With a registry: whom to exchange heartbeats with, given who does not answer. Else it is all with whom nothing else was. */
  readonly wanted: ((late: readonly MemberRecord[]) => readonly NodeId[]) | undefined;
}

interface PeerRpcOptions {
  readonly suspectAfterMs: number;
  readonly beatMs: number;
}

export function createPeerRpc(deps: PeerRpcDeps, { suspectAfterMs, beatMs }: PeerRpcOptions): PeerRpc {
  const { clock, membership, transport, discovery, policiesDigest, heardPolicies, wanted } = deps;
  const lateMs = beatMs * LATE_BEATS;
  /** Of each member: when it was last heard, and the hash of its member list. */
  const exchanged = new Map<NodeId, { atMs: number; view: string }>();
  const heartbeating = new Set<NodeId>();
  let beats = 0;
  let closed = false;

  async function ask(to: NodeId, body: PeerMessage, timeoutMs: number): Promise<Asked> {
    const sent = sender();
    membership.messageSent(to);
    const result = await transport.send(to, { sender: sent, body }, timeoutMs);
    if (result.kind === 'refused') membership.connectionRefused(to);
    if (result.kind !== 'answer') return { kind: result.kind };
    const { sender: answerer, body: answer } = result.answer;
    // Another one lives at this address by now: what it says is not what was asked for. Seeds may go by other names.
    if (answerer.from.id !== to && membership.stateOf(to) !== undefined) return { kind: 'broken' };
    met(answerer);
    const { view } = answerer;
    if ('members' in answer) {
      const complete = answer.kind === 'members' && view !== sent.view;
      const from = answer.kind === 'not-yet' ? { host: to } : complete ? { view } : undefined;
      membership.learn(answer.members, from);
    }
    if (membership.isBehind(view) && body.kind !== 'heartbeat' && (membership.ordered || !('members' in answer)))
      void heartbeat(answerer.from.id);
    return { kind: 'answer', body: answer };
  }

  function sender(): Sender {
    return { from: membership.self, view: membership.view, policies: policiesDigest() };
  }

  function met({ from, view, policies }: Sender): void {
    membership.messageReceived(from, view);
    exchanged.set(from.id, { atMs: clock.nowMs(), view });
    if (policies !== policiesDigest()) heardPolicies(from.id, policies);
  }

  async function heartbeat(to: NodeId, late = membership.silent(lateMs)): Promise<void> {
    if (heartbeating.has(to)) return;
    heartbeating.add(to);
    const agreed = exchanged.get(to)?.view === membership.view;
    const members = agreed || membership.ordered ? late : membership.records();
    const part = membership.ordered ? PROBE_PART : HEARTBEAT_PART;
    await ask(to, { kind: 'heartbeat', members }, Math.ceil(suspectAfterMs * part));
    heartbeating.delete(to);
  }

  async function greetSeeds(): Promise<void> {
    for (const id of await discovery.seeds()) {
      if (id !== membership.self.id && membership.stateOf(id) === undefined && !closed) void heartbeat(id);
    }
  }

  return {
    ask,
    sender,
    messageReceived(sender) {
      met(sender);
      if (membership.ordered && membership.isBehind(sender.view)) void heartbeat(sender.from.id);
    },
    async reply(answer) {
      // A list of members is true under the view that it was made with.
      const said = sender();
      if (!(answer instanceof Promise)) return { sender: said, body: answer };
      const body = await answer;
      return { sender: sender(), body };
    },
    heartbeat: (to) => void heartbeat(to),
    async tell(ids, members) {
      const others = ids.filter((id) => id !== membership.self.id && !membership.isDown(id));
      await Promise.all(others.map((id) => ask(id, { kind: 'heartbeat', members }, suspectAfterMs)));
    },
    beat() {
      beats += 1;
      const nowMs = clock.nowMs();
      for (const id of exchanged.keys()) if (membership.stateOf(id) === undefined) exchanged.delete(id);
      // Who is not heard directly may be alive: whatever else is said to the others, they are asked.
      const late = membership.silent(lateMs);
      if (wanted !== undefined) {
        for (const id of wanted(late)) void heartbeat(id, late);
        return;
      }
      const missed = late.some(({ id }) => membership.stateOf(id) !== 'dead');
      for (const id of membership.others()) {
        const state = membership.stateOf(id);
        const dead = state === 'dead' || state === 'leaving';
        const quiet = nowMs - (exchanged.get(id)?.atMs ?? -Infinity) >= beatMs;
        if (dead ? beats % SEED_EVERY === 0 : quiet || missed) void heartbeat(id, late);
      }
      if (beats % SEED_EVERY === 0) void greetSeeds();
    },
    close: () => (closed = true),
  };
}

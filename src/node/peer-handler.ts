import type { ClientAdmin } from './client-admin.js';
import type { Donor } from '../replication/donor.js';
import type { Replicator } from '../replication/replicator.js';
import type { Copies } from '../state/copies.js';
import type { LeaseGranter } from './leases/granter.js';
import type { PeerChecks } from './decide/peer-checks.js';
import type { AdaptiveController } from './policies/adaptive-controller.js';
import type { Membership } from '../membership/membership.js';
import type { PeerRpc } from '../membership/peer-rpc.js';
import type { Observer } from './observer.js';
import type { CheckResult, PeerAnswer, PeerMessage, Sender } from '../protocol/messages.js';
import type { PolicyBackend } from './policies/policy-backend.js';
import type { Clock } from '../lib/system.js';
import type { Settler } from './decide/settler.js';

/** Answers are kept in case their batch is sent again: so long at least, and twice as long as a sender waits. */
const MIN_ANSWER_TTL_MS = 5_000;
/** Upper bounds of the bytes of an answer, of one decision in it, and of the figures of each of several limits. */
const ANSWER_BYTES = 1_000;
const DECIDED_BYTES = 240;
const LIMIT_BYTES = 136;

type Results = readonly CheckResult[];

/** Answers the messages of peers. */
export class PeerHandler {
  private readonly answered: AnsweredBatches;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly membership: Membership;
      readonly peerChecks: PeerChecks;
      readonly leaseGranter: LeaseGranter;
      readonly donor: Donor;
      readonly policies: PolicyBackend;
      readonly settler: Settler;
      readonly adaptive: AdaptiveController;
      readonly copies: Pick<Copies, 'merge'>;
      readonly replicator: Pick<Replicator, 'copiesReceived'>;
      readonly peerRpc: Pick<PeerRpc, 'answerHeartbeat' | 'heartbeat'>;
      readonly admin: Pick<ClientAdmin, 'describeHere' | 'forgetHere'>;
      readonly observer: Observer;
      readonly maxAnswerBytes: number;
      readonly giveUpAfterMs: number;
    },
  ) {
    const { clock, giveUpAfterMs, maxAnswerBytes } = parts;
    this.answered = new AnsweredBatches(clock, Math.max(MIN_ANSWER_TTL_MS, 2 * giveUpAfterMs), maxAnswerBytes);
  }

  /** Answers at once what needs no other node, as most messages do. */
  answer(sender: Sender, message: PeerMessage): PeerAnswer | Promise<PeerAnswer> {
    const { membership, leaseGranter, donor, policies, settler, adaptive, peerRpc, observer } = this.parts;
    const { from } = sender;
    switch (message.kind) {
      case 'decide':
        return this.serveChecks(message);
      case 'heartbeat':
        return peerRpc.answerHeartbeat(sender, message.members);
      case 'lease':
        return leaseGranter
          .lease(message.requests, message.returns, from.id)
          .then((grants) => ({ kind: 'leased', grants }));
      case 'replicate':
        this.parts.copies.merge(message.clients);
        this.parts.replicator.copiesReceived(message.clients, sender.view);
        // Copies of a member that may not decide any more are merged, but the member must not count on them.
        return membership.isDecider(from) ? { kind: 'kept' } : { kind: 'not-yet', members: [] };
      case 'handoff':
        return donor.handoff(from.id, message.chunk, message.gone);
      case 'enter':
        return donor.accept(from.id, message.record, message.ring, message.members);
      case 'paused':
        return { kind: 'acted', acted: membership.mayHaveActedFor(from, message.incarnation) };
      case 'describe':
        return { kind: 'described', client: this.parts.admin.describeHere(message.clientId) };
      case 'forget':
        this.parts.admin.forgetHere(message.clientId);
        return { kind: 'forgotten' };
      case 'settle': {
        const { clientId, reservation, cost } = message;
        const settling = settler.settleForPeer(clientId, reservation, cost);
        return settling.then((settled) => ({ kind: 'settled', settled }));
      }
      case 'top':
        return { kind: 'top', ...observer.topHere(message) };
      case 'report':
        return { kind: 'report', report: observer.reportHere() };
      case 'use':
        return { kind: 'use', use: observer.useHere(message.name) };
      case 'load':
        return { kind: 'factors', factors: adaptive.reportFromPeer(message.name, message.load) };
      case 'factors':
        adaptive.learn(message.factors);
        return { kind: 'kept' };
      case 'policies':
        return policies.antiEntropy.answer(message);
      case 'fetch-policies':
        return policies.antiEntropy.fetchFrom(from.id, message);
      case 'policy-part':
        return policies.entryParts.answer(message.of, message.part);
      case 'write-policies':
        return policies.writeForPeer(message, from.id).then((written) => ({ kind: 'policies-written', written }));
    }
  }

  private decided(results: Results): PeerAnswer {
    // If this node does not decide for a client, the two nodes have different rings and compare member lists. The list
    // is not kept with the answer: it may be long, and it changes.
    const members = results.includes('not-mine') ? this.parts.membership.records() : [];
    return { kind: 'decided', results, members };
  }

  private serveChecks(message: Extract<PeerMessage, { kind: 'decide' }>): PeerAnswer | Promise<PeerAnswer> {
    const { membership, peerRpc, peerChecks } = this.parts;
    const before = this.answered.get(message.messageId);
    if (before !== undefined) return this.replay(before);
    // A member that refused the sender counts as down here only if it refuses this node too.
    for (const id of message.refused) if (!membership.isDown(id)) peerRpc.heartbeat(id);
    const results = peerChecks.serve(message.checks);
    this.answered.add(message.messageId, results, answerBytes(message.checks));
    return this.replay(results);
  }

  private replay(results: Results | Promise<Results>): PeerAnswer | Promise<PeerAnswer> {
    return results instanceof Promise ? results.then((later) => this.decided(later)) : this.decided(results);
  }
}

/** Bytes of the answer to these checks, at most. */
function answerBytes(checks: Extract<PeerMessage, { kind: 'decide' }>['checks']): number {
  let bytes = ANSWER_BYTES;
  for (const { rules } of checks) bytes += DECIDED_BYTES + (rules.length > 1 ? LIMIT_BYTES * rules.length : 0);
  return bytes;
}

interface Answered {
  readonly messageId: string;
  readonly results: Results | Promise<Results>;
  readonly bytes: number;
  readonly atMs: number;
}

/**
 * The answers to messages of checks, in case a peer sends one again: it is charged once, and gets the same answer. What
 * a caller repeats under its own request id finds its decisions in `RecentDecisions`.
 *
 * Forgets the oldest answers first. A queue beside the map says which they are, because a map that loses its first
 * entries one by one takes ever longer to find the next one.
 */
export class AnsweredBatches {
  private readonly byId = new Map<string, Answered>();
  /** In the order in which they came; forgotten before `first`. */
  private queue: (Answered | undefined)[] = [];
  private first = 0;
  private bytes = 0;

  /**
   * @param ttlMs answers are forgotten after this time
   * @param maxBytes bound of the bytes of all answers
   */
  constructor(
    private readonly clock: Clock,
    private readonly ttlMs: number,
    private readonly maxBytes: number,
  ) {}

  get(messageId: string): Results | Promise<Results> | undefined {
    const answered = this.byId.get(messageId);
    return answered === undefined || this.clock.nowMs() - answered.atMs >= this.ttlMs ? undefined : answered.results;
  }

  /** @param size upper bound of the size of the answer */
  add(messageId: string, results: Results | Promise<Results>, size: number): void {
    const answered = { messageId, results, bytes: size, atMs: this.clock.nowMs() };
    this.byId.set(messageId, answered);
    this.queue.push(answered);
    this.bytes += size;
    this.forgetOld(answered.atMs);
  }

  private forgetOld(nowMs: number): void {
    for (; this.first < this.queue.length; this.first += 1) {
      const oldest = this.queue[this.first]!;
      if (this.bytes <= this.maxBytes && nowMs - oldest.atMs < this.ttlMs) break;
      if (this.byId.get(oldest.messageId) === oldest) this.byId.delete(oldest.messageId);
      this.queue[this.first] = undefined;
      this.bytes -= oldest.bytes;
    }
    if (2 * this.first <= this.queue.length) return;
    this.queue = this.queue.slice(this.first);
    this.first = 0;
  }
}

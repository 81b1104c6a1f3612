import type { Check, Question } from '../limits/decide/check.js';
import type { Verdict } from '../limits/decide/decide.js';
import type { Settlement, Source } from '../limits/decide/decision.js';
import type { ClientDescription } from '../limits/request/description.js';
import type { PolicyDocument } from '../policy/policy-document.js';
import type { EntryValue, Part } from '../policy/policy-entry.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Ranking, Span, TopPart } from '../limits/top-clients.js';
import type { Use } from '../policy/policy-use.js';

/**
 * The state that a member declares. Others derive the state that they see from it and from the time since they heard
 * the member. A leaving member decides no more and hands over its clients. A member that has left has handed them over.
 */
export type DeclaredState = 'joining' | 'active' | 'leaving' | 'left';

/** A member as it last described itself. Members pass it on; a later one (by incarnation, state, beat) replaces it. */
export interface MemberRecord {
  readonly id: NodeId;
  /** Begins anew with each start of the member, and with each return to the ring. */
  readonly incarnation: number;
  readonly state: DeclaredState;
  /** Counts up while the process runs. Its progress is the sign of life, by whatever path a node learns it. */
  readonly beat: number;
  /** Version of the program. */
  readonly version: string;
  /** Address of the public API, as `http://host:port`; empty if the member does not know it. */
  readonly url: string;
  /** Time since the node that passes this on heard a new beat; 0 from the member itself. */
  readonly silentMs: number;
  /** Whether that node suspects the member: it has not heard the member although it should have. */
  readonly suspected: boolean;
}

/** The sender of a message or answer. So each of them is a sign of life. */
export interface Sender {
  readonly from: MemberRecord;
  /** Hash of the sender's member list. If it differs from the receiver's, the next heartbeat compares the lists. */
  readonly view: string;
  /** Digest of the sender's policy document. If it differs from the receiver's, the two compare the documents. */
  readonly policies: string;
}

export type Settled =
  | { readonly kind: 'settled'; readonly settlement: Settlement }
  /** The reservation was never made, or has expired at its reserved cost. */
  | { readonly kind: 'unknown' }
  /** The owner did not answer in time. The reservation may be settled; to settle it again counts once. */
  | { readonly kind: 'unavailable' };

/** A request for tokens in advance, for checks of this client under these rules. */
export interface LeaseRequest extends Question {
  /** Tokens that the requesting node will need until its next request: whole, at least 1. */
  readonly tokens: number;
}

/** A lease that its holder returns. */
export interface LeaseReturn {
  readonly clientId: string;
  readonly id: string;
  readonly unspent: number;
}

/** Tokens that the lease holder may spend until `LEASE_MS` after its request. No limit is exceeded by them. */
export interface LeaseGrant {
  readonly id: string;
  /** Whole, from 1 to the tokens requested. */
  readonly tokens: number;
  /** The client's verdict with these tokens taken. */
  readonly verdict: Verdict;
}

/** The result of a policy write. */
export type Written =
  | RingWritten
  /** The document would exceed the bound; `reason` gives its size and the bound. */
  | { readonly kind: 'too-large'; readonly reason: string }
  /** The registry takes no writes now. `undone`: nothing was changed; otherwise the result is unknown. */
  | { readonly kind: 'no-registry'; readonly reason: string; readonly undone: boolean };

export type RingWritten =
  /** In force on all nodes that could be reached. `madeFrom`: the document before, on the node that made the change. */
  | { readonly kind: 'written'; readonly version: number; readonly digest: string; readonly madeFrom?: PolicyDocument }
  /** The document is not at a version that the write allows. */
  | { readonly kind: 'conflict'; readonly version: number; readonly digest: string }
  /** There are too many entries. */
  | { readonly kind: 'full' }
  /** No node that takes writes answered; the change may have been made. */
  | { readonly kind: 'unavailable' };

/** Keys with their new values; `null` deletes. */
export type ChangeList = readonly (readonly [key: string, value: EntryValue | null])[];

/** The part of the limits of adaptive policies that is in force, by name: above 0, at most 1. */
export type Factors = readonly (readonly [name: string, factor: number])[];

export type PeerMessage =
  /**
   * Decide these checks. A message that is sent again under its id is charged once. `refused`: members that refused a
   * connection.
   */
  | {
      readonly kind: 'decide';
      readonly messageId: string;
      readonly refused: readonly NodeId[];
      readonly checks: readonly Check[];
    }
  /**
   * Compare member lists. If both nodes have the same `view`, message and answer hold only members that the sender has
   * not heard lately. Otherwise the bytes of all heartbeats would grow with the cube of the number of members.
   */
  | { readonly kind: 'heartbeat'; readonly members: readonly MemberRecord[] }
  /** Grant leases for these clients, and take back unspent tokens of earlier ones. */
  | { readonly kind: 'lease'; readonly requests: readonly LeaseRequest[]; readonly returns: readonly LeaseReturn[] }
  /** Merge these copies of clients, which are in the format of `state/client-format.ts`. */
  | { readonly kind: 'replicate'; readonly clients: Uint8Array }
  /**
   * Hand over the next clients that the sender, a joining member, will own or hold copies of. Chunk 0 begins anew; a
   * chunk that is requested again is answered again. `gone`: members in whose place the sender will decide.
   */
  | { readonly kind: 'handoff'; readonly chunk: number; readonly gone: readonly NodeId[] }
  /** Accept the sender, which has all chunks, to the ring, and hand over what changed since. */
  | {
      readonly kind: 'enter';
      readonly record: MemberRecord;
      readonly ring: string;
      readonly members: readonly MemberRecord[];
    }
  /**
   * Say whether the receiver acted for the sender, which paused. `incarnation`: of the receiver, as the sender knows
   * it.
   */
  | { readonly kind: 'paused'; readonly incarnation: number }
  | { readonly kind: 'describe'; readonly clientId: string }
  | { readonly kind: 'forget'; readonly clientId: string }
  /** Replace a reserved cost by the final one. */
  | { readonly kind: 'settle'; readonly clientId: string; readonly reservation: string; readonly cost: number }
  /** Report the largest counts of clients; with `policy`, of requests under this policy only. */
  | ({ readonly kind: 'top' } & TopQuery)
  /** Report the counters of the receiver. */
  | { readonly kind: 'report' }
  /** Report the requests under this policy in the last hour. */
  | { readonly kind: 'use'; readonly name: string }
  /** Adjust this policy to a load of 0 to 1. */
  | { readonly kind: 'load'; readonly name: string; readonly load: number }
  /** Apply these factors to the limits. */
  | { readonly kind: 'factors'; readonly factors: Factors }
  /** Put this policy document in force. The entries are its changes, or all of it. */
  | PolicyEntries
  /** Fetch this policy document from the sender, part by part, and answer when it is merged. */
  | { readonly kind: 'fetch-policies'; readonly version: number; readonly digest: string }
  /** Send a part of a document, by its digest, or of the changes of a write, by its id. */
  | { readonly kind: 'policy-part'; readonly of: string; readonly part: number }
  /**
   * Change the policies on all nodes. A write that is sent again under its id is made once. `changes`: `null` if they
   * have more than one part, which the receiver fetches.
   */
  | {
      readonly kind: 'write-policies';
      readonly writeId: string;
      readonly changes: ChangeList | null;
      readonly ifMatch: readonly string[] | undefined;
    };

export interface TopQuery {
  readonly by: Ranking;
  readonly span: Span;
  readonly policy: string | undefined;
}

/** Counters and gauges of one node at one moment. Counters count from its start. */
export interface NodeReport {
  /** Decisions that the node answered to callers, by source. */
  readonly allowed: Readonly<Record<Source, number>>;
  readonly denied: Readonly<Record<Source, number>>;
  /** Requests answered with a problem. */
  readonly problems: number;
  /** Requests on the decision endpoints by duration: see `DURATION_BOUNDS` in `limits/decide/decision.ts`. */
  readonly durations: readonly number[];
  /** Ms for which the event loop was busy. */
  readonly busyMs: number;
  /** Ms since the start of the process. */
  readonly uptimeMs: number;
  /** Resident memory, and the memory that the node plans with; 0 if it is not known. */
  readonly memoryBytes: number;
  readonly memoryBudgetBytes: number;
  readonly clients: number;
  readonly replicationLagMs: number;
  readonly forwardsWaiting: number;
}

export interface PolicyEntries {
  readonly kind: 'policies';
  readonly version: number;
  readonly digest: string;
  readonly entries: Part;
  readonly whole: boolean;
}

export type PeerAnswer =
  /** One result per check, in order. */
  | {
      readonly kind: 'decided';
      readonly results: readonly CheckResult[];
      readonly members: readonly MemberRecord[];
    }
  /** One grant per request, in order; `null` if there are too few tokens. */
  | { readonly kind: 'leased'; readonly grants: readonly (LeaseGrant | null)[] }
  | { readonly kind: 'members'; readonly members: readonly MemberRecord[] }
  | { readonly kind: 'kept' }
  | {
      readonly kind: 'handed';
      /** In the format of `state/client-format.ts`. */
      readonly clients: Uint8Array;
      readonly more: boolean;
      readonly total: number;
    }
  /** The rings differ: compare member lists, then send the message again. */
  | { readonly kind: 'not-yet'; readonly members: readonly MemberRecord[] }
  /** Whether the receiver has decided for the sender, or may have. */
  | { readonly kind: 'acted'; readonly acted: boolean }
  | { readonly kind: 'described'; readonly client: ClientDescription }
  | { readonly kind: 'forgotten' }
  | ({ readonly kind: 'top' } & TopPart)
  | { readonly kind: 'report'; readonly report: NodeReport }
  | { readonly kind: 'use'; readonly use: Use }
  /** The factor of the policy; none if the receiver does not control it. */
  | { readonly kind: 'factors'; readonly factors: Factors }
  /** `null` if the receiver does not decide for the client. */
  | { readonly kind: 'settled'; readonly settled: Settled | null }
  /** The receiver's policy document; if it differs from the sender's, and has one part, all of it. */
  | PolicyEntries
  /** `null` if the receiver does not hand out this part. */
  | { readonly kind: 'policy-part'; readonly entries: Part | null; readonly more: boolean }
  /** `null` if the receiver takes no writes. */
  | { readonly kind: 'policies-written'; readonly written: RingWritten | null };

/**
 * `overloaded`: too many checks wait at the receiver, and nothing was charged. `not-mine`: the receiver does not decide
 * for the client.
 */
export type CheckResult = DecidedByPeer | 'overloaded' | 'not-mine';

export interface DecidedByPeer {
  readonly verdict: Verdict;
  /** Whether the peer decided as acting owner, with its copy. */
  readonly degraded: boolean;
  /** Whether a denial may end early, because leased or reserved tokens may come back. */
  readonly revocable: boolean;
  /** See `Decision.unreserved`. */
  readonly unreserved?: true;
}

export interface Envelope<T> {
  readonly sender: Sender;
  readonly body: T;
}

/** The part of a report that the cluster code does not know. */
export type ProcessReport = Omit<NodeReport, 'clients' | 'replicationLagMs' | 'forwardsWaiting'>;

/** The result of one message to a peer; expected failures are values. */
export type PeerResult =
  | { readonly kind: 'answer'; readonly answer: Envelope<PeerAnswer> }
  /** Nothing listens there: the peer did not receive the message. */
  | { readonly kind: 'refused' }
  /** The connection broke, or the answer was malformed: the peer may have received the message. */
  | { readonly kind: 'broken'; readonly reason: string }
  /** No answer in time: the peer may have received the message, or may still receive it. */
  | { readonly kind: 'timeout' };

export interface PeerTransport {
  /** Never rejects: a failure is a value. Settles within `timeoutMs`. */
  send(to: NodeId, message: Envelope<PeerMessage>, timeoutMs: number): Promise<PeerResult>;
}

/** The result of one message to a peer, after the sender has noted what it says about the peer. */
export type PeerReply =
  { readonly kind: 'answer'; readonly body: PeerAnswer } | { readonly kind: 'refused' | 'broken' | 'timeout' };

/** Sends one message to a peer and resolves with the result. Never rejects; settles within `timeoutMs`. */
export type Ask = (to: NodeId, body: PeerMessage, timeoutMs: number) => Promise<PeerReply>;

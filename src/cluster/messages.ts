import type { Check, Verdict } from '../core/decide.js';
import type { Settlement } from '../core/decision.js';
import type { ClientDescription } from '../core/description.js';
import type { Entry, EntryValue, PolicyDocument } from '../core/policy-document.js';
import type { Debt } from '../core/reservation.js';
import type { NodeId } from '../core/ring.js';
import type { Rule } from '../core/rule.js';
import type { Snapshot } from '../core/snapshot.js';

/**
 * What a member says of itself; what others believe of it follows from how long ago they heard.
 * One that is leaving decides no more, and sends on what it owned; one that has left has done so.
 */
export type DeclaredState = 'joining' | 'active' | 'leaving' | 'left';

/** A member as it last described itself, passed on by everyone. A later one (by incarnation, state, beat) replaces it. */
export interface MemberRecord {
  readonly id: NodeId;
  /** Counts the lives of this id: a restart, or a return after it was away, begins the next. */
  readonly incarnation: number;
  readonly state: DeclaredState;
  /** Counts up while the process runs: its progress, by whatever path it is learnt, is the sign of life. */
  readonly beat: number;
  /** Version of the program. */
  readonly version: string;
  /** Where callers reach it, as `http://host:port`; empty where it cannot say. */
  readonly url: string;
  /** How long whoever passes this on has not heard a new beat: 0 from the member itself. */
  readonly silentMs: number;
}

/** Who sends, on every message and answer, so that each is a sign of life too. */
export interface Sender {
  readonly from: MemberRecord;
  /** Of the sender's member list; where it is not the receiver's, the next heartbeat settles it. */
  readonly view: string;
  /** Digest of the sender's document of policies; where it is not the receiver's, the two compare. */
  readonly policies: string;
}

/** A decision on a request id, for those who may be asked with it again. */
export interface RecentSnapshot {
  readonly requestId: string;
  readonly ageMs: number;
  readonly verdict: Verdict;
  readonly degraded: boolean;
}

/** A reserved cost; see `core/reservation.ts`. */
export interface ReservationSnapshot {
  readonly id: string;
  readonly cost: number;
  readonly rules: readonly Rule[];
  readonly ageMs: number;
  readonly least: readonly Debt[];
  readonly settled: number | undefined;
}

/** What is known of a client, on the wire; most have no request ids, and no reservations. */
export type ClientSnapshot = readonly [
  clientId: string,
  buckets: readonly Snapshot[],
  recent?: readonly RecentSnapshot[],
  reservations?: readonly ReservationSnapshot[],
];

/** Copies of clients: most as records, see `state/copy-records.ts`, and as snapshots those of which there is more to tell. */
export interface ClientCopies {
  readonly clients: readonly ClientSnapshot[];
  readonly records?: Uint8Array | undefined;
}

export type Settled =
  | { readonly kind: 'settled'; readonly settlement: Settlement }
  /** Nobody knows it (any more): it was never made, or has long stood at its reserved cost. */
  | { readonly kind: 'unknown' }
  /** Who decides for the client could not be asked in time: it may have been settled, and can be again. */
  | { readonly kind: 'unavailable' };

/** Tokens asked for in advance, for checks of this client under these rules. */
export interface LeaseRequest {
  readonly clientId: string;
  readonly rules: readonly Rule[];
  /** What the asking node will need until it asks again: whole, at least 1. */
  readonly tokens: number;
}

/** A lease that its holder is done with. */
export interface LeaseReturn {
  readonly clientId: string;
  readonly id: string;
  readonly unspent: number;
}

/** Tokens that the asking node may spend until `LEASE_MS` after it asked, and no limit is exceeded. */
export interface LeaseGrant {
  readonly id: string;
  /** Whole, 1 to what was asked for. */
  readonly tokens: number;
  /** The client's figures with these tokens taken. */
  readonly verdict: Verdict;
}

/** How a change of the policies ended. */
export type Written =
  | RingWritten
  /** The document would be too large to be written down; `reason` says how large, and what it may be. */
  | { readonly kind: 'too-large'; readonly reason: string }
  /** The registry does not take writes now; `undone`: nothing was changed, otherwise nobody knows. */
  | { readonly kind: 'no-registry'; readonly reason: string; readonly undone: boolean };

export type RingWritten =
  /** In force on all nodes that could be reached; `madeFrom`: of which document, known where it was made. */
  | { readonly kind: 'written'; readonly version: number; readonly digest: string; readonly madeFrom?: PolicyDocument }
  /** The document is not at the version that the writer has seen. */
  | { readonly kind: 'conflict'; readonly version: number; readonly digest: string }
  /** There are too many entries. */
  | { readonly kind: 'full' }
  /** Nobody who takes writes answers; the change may have been made. */
  | { readonly kind: 'unavailable' };

/** Keys with their new values; `null` deletes. */
export type ChangeList = readonly (readonly [key: string, value: EntryValue | null])[];

/** Of adaptive policies, by name: the part of their limits that is in force, above 0 to 1. */
export type Factors = readonly (readonly [name: string, factor: number])[];

export type PeerMessage =
  /** Decide. A batch sent again under its id is charged once. `refused`: members that refused the sender a connection. */
  | {
      readonly kind: 'decide';
      readonly batchId: string;
      readonly refused: readonly NodeId[];
      readonly checks: readonly Check[];
    }
  /**
   * Compare member lists. Where the two are the same, beats aside, as `view` says, those that the sender has not heard lately
   * are enough, and the answer tells of the same: else what each node sends would grow with the square of their number.
   */
  | { readonly kind: 'heartbeat'; readonly members: readonly MemberRecord[] }
  /** Let me spend tokens of these clients by myself; with those back that I did not spend. */
  | { readonly kind: 'lease'; readonly wishes: readonly LeaseRequest[]; readonly returns: readonly LeaseReturn[] }
  /** Keep these copies. */
  | ({ readonly kind: 'replicate' } & ClientCopies)
  /**
   * Hand me, who joins, the next of the clients that I will decide for, in the place of those who are gone too; 0 begins anew, a
   * number asked again is answered again.
   */
  | { readonly kind: 'handoff'; readonly chunk: number; readonly gone: readonly NodeId[] }
  /** I have all that you handed me: let me into your ring, and hand me what changed since. */
  | {
      readonly kind: 'admit';
      readonly record: MemberRecord;
      readonly ring: string;
      readonly members: readonly MemberRecord[];
    }
  /** Tell me whether you have decided for me while I paused. `incarnation`: of the receiver, as the sender knows it. */
  | { readonly kind: 'paused'; readonly incarnation: number }
  | { readonly kind: 'describe'; readonly clientId: string }
  | { readonly kind: 'forget'; readonly clientId: string }
  /** Replace a reserved cost by the real one. */
  | { readonly kind: 'settle'; readonly clientId: string; readonly reservation: string; readonly cost: number }
  /** What this policy protects is under this load, 0 to 1: steer. */
  | { readonly kind: 'load'; readonly name: string; readonly load: number }
  /** These policies have these parts of their limits. */
  | { readonly kind: 'factors'; readonly factors: Factors }
  /** Hold this document of policies: these entries make it of the last one, or are the whole of it. */
  | PolicyEntries
  /** Change the policies everywhere. Sent again under its id, it is made once. */
  | {
      readonly kind: 'write-policies';
      readonly writeId: string;
      readonly changes: ChangeList;
      readonly ifMatch: readonly string[] | undefined;
    };

export interface PolicyEntries {
  readonly kind: 'policies';
  readonly version: number;
  readonly digest: string;
  readonly entries: readonly (readonly [key: string, entry: Entry])[];
  readonly whole: boolean;
}

export type PeerAnswer =
  /** One for each check, in order; `null` where the receiver is not the one to decide. */
  | {
      readonly kind: 'decided';
      readonly results: readonly (DecidedByPeer | null)[];
      readonly members: readonly MemberRecord[];
    }
  /** One for each wish, in order; `null` where there is none to be had. */
  | { readonly kind: 'leased'; readonly grants: readonly (LeaseGrant | null)[] }
  | { readonly kind: 'members'; readonly members: readonly MemberRecord[] }
  | { readonly kind: 'kept' }
  | {
      readonly kind: 'handed';
      readonly clients: readonly ClientSnapshot[];
      readonly more: boolean;
      readonly total: number;
    }
  /** The rings differ: compare lists, then ask again. */
  | { readonly kind: 'not-yet'; readonly members: readonly MemberRecord[] }
  /** Whether the receiver has decided for the sender, or may have. */
  | { readonly kind: 'acted'; readonly acted: boolean }
  | { readonly kind: 'described'; readonly client: ClientDescription }
  | { readonly kind: 'forgotten' }
  /** The factor of what was reported; none where the receiver does not steer. */
  | { readonly kind: 'factors'; readonly factors: Factors }
  /** `null` where the receiver is not the one to decide for the client. */
  | { readonly kind: 'settled'; readonly settled: Settled | null }
  /** The document that the receiver holds; the whole of it, where it is not the sender's. */
  | PolicyEntries
  /** `null` where the receiver is not the one to take writes. */
  | { readonly kind: 'policies-written'; readonly written: RingWritten | null };

export interface DecidedByPeer {
  readonly verdict: Verdict;
  /** True when the peer stood in for the owner, with the copy it holds. */
  readonly degraded: boolean;
  /** Whether a denial may become wrong before its time is over, as tokens that are lent, or reserved, may come back. */
  readonly revocable: boolean;
}

export interface Envelope<T> {
  readonly sender: Sender;
  readonly body: T;
}

import type { PolicyDocument } from '../../core/policy-document.js';
import type { NodeId } from '../../core/ring.js';

/** A member as it is written down for all. */
export interface Registration {
  readonly id: NodeId;
  /** Counts the lives of this id: a later registration has a larger one. */
  readonly incarnation: number;
  readonly state: 'joining' | 'active' | 'leaving';
  /** Version of the program. */
  readonly version: string;
  /** Where callers reach it; empty where it cannot say. */
  readonly url: string;
}

/** All members as of one revision. Two views of one registry are ordered by it, for everybody alike. */
export interface RegistryView {
  /** Names the registry: another one, or one whose data was lost, counts from another beginning. */
  readonly registry: string;
  readonly revision: number;
  readonly entries: readonly Registration[];
}

/** One change: what a member is now, that it is gone, or the document of policies. */
export type Change =
  | { readonly kind: 'is'; readonly entry: Registration }
  | { readonly kind: 'gone'; readonly id: NodeId }
  | { readonly kind: 'policies'; readonly stored: StoredPolicies };

/** The document of policies, as it is written down for all; `revision`: of when it was, 0 where there is none. */
export type StoredPolicies =
  | { readonly kind: 'document'; readonly revision: number; readonly document: PolicyDocument }
  /** It is none that this program can read; `reason` names what is wrong with it. */
  | { readonly kind: 'unreadable'; readonly revision: number; readonly reason: string };

/** What became of a document that was to be written down. */
export type StoreResult =
  | { readonly kind: 'written'; readonly revision: number }
  /** What is there is not what it was made from: nothing was written. */
  | { readonly kind: 'overtaken' }
  /** `reason` says how large it is, and may be. */
  | { readonly kind: 'too-large'; readonly reason: string }
  /** `undone`: nothing was written, nor will be. */
  | (Failed & { readonly undone: boolean });

export type Granted = { readonly kind: 'granted'; readonly leaseId: string; readonly ttlMs: number } | Failed;

export type Renewed =
  | { readonly kind: 'renewed'; readonly ttlMs: number; readonly revision: number }
  /** The lease has ended, and what was written under it is gone. */
  | { readonly kind: 'ended' }
  | Failed;

export type WriteResult =
  | { readonly kind: 'written'; readonly revision: number }
  /** Somebody has written since the revision that was named: nothing was written. */
  | { readonly kind: 'overtaken' }
  | { readonly kind: 'ended' }
  | Failed;

/**
 * What must not have come in between, so that a write that was given up, and arrives all the same, changes nothing any more:
 * a write of this member, or of any, later than a revision.
 */
export interface Unless {
  readonly ownLaterThan: number;
  readonly anyLaterThan: number | undefined;
}

/** Nobody answered in time, or not so that it could be understood: what was asked may have been done. */
export interface Failed {
  readonly kind: 'failed';
  readonly reason: string;
}

/** How a watch ended: what was to be told is not there any more, or the connection is not. */
type WatchEnd = 'compacted' | 'broken';

export interface WatchListener {
  /** Called in the order of revisions, each at most once; nothing is left out until `ended`. */
  changed(revision: number, changes: readonly Change[]): void;
  /** Called at most once, and then nothing more. */
  ended(why: WatchEnd): void;
}

/**
 * Where members are written down under leases, and the policies, in one order for all: etcd. Nothing here rejects: a failure is a value, and
 * settles within `timeoutMs`. A lease lives for `ttlMs`, counted by the registry from when it was granted or renewed, which
 * is after that was asked for; what was written under it goes with it.
 */
export interface Registry {
  /** All members, and the policies, at a revision no older than any write that had ended when it was asked. */
  read(
    timeoutMs: number,
  ): Promise<({ readonly kind: 'view'; readonly stored: StoredPolicies } & RegistryView) | Failed>;
  /** @param ttlMs whole seconds; the registry may give more */
  grant(ttlMs: number, timeoutMs: number): Promise<Granted>;
  renew(leaseId: string, timeoutMs: number): Promise<Renewed>;
  /** Writes a member down under a lease, in the place of what was there, if nothing has come in between. */
  write(leaseId: string, entry: Registration, unless: Unless, timeoutMs: number): Promise<WriteResult>;
  /** Ends a lease, and takes out what was written under it. */
  revoke(leaseId: string, timeoutMs: number): Promise<void>;
  /** Writes the document down whole, in the place of the one of this registry and revision, or not at all. */
  storePolicies(
    document: PolicyDocument,
    inPlaceOf: { readonly registry: string; readonly revision: number },
    timeoutMs: number,
  ): Promise<StoreResult>;
  /** Tells of all changes after a revision, until the returned function is called. */
  watch(after: number, listener: WatchListener): () => void;
}

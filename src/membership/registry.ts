import type { PolicyDocument } from '../policy/policy-document.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Clock, Log } from '../lib/system.js';

/** A member's entry in the registry. */
export interface Registration {
  readonly id: NodeId;
  /** Larger for each later registration of this id. */
  readonly incarnation: number;
  readonly state: 'joining' | 'active' | 'leaving';
  /** Version of the program. */
  readonly version: string;
  /** Address of the public API; empty if the member does not know it. */
  readonly url: string;
}

/** All members as of one revision. The revision orders the views of one registry, in the same way on every node. */
export interface RegistryView {
  /** Name of the registry. A registry that lost its data has another name, and counts revisions anew. */
  readonly registry: string;
  readonly revision: number;
  readonly entries: readonly Registration[];
}

/** One change: a new entry of a member, a removed member, or the policy document. */
export type Change =
  | { readonly kind: 'is'; readonly entry: Registration }
  | { readonly kind: 'gone'; readonly id: NodeId }
  | { readonly kind: 'policies'; readonly stored: StoredPolicies };

/** The policy document in the registry. `revision`: of its last write; 0 if there is none. */
export type StoredPolicies =
  | { readonly kind: 'document'; readonly revision: number; readonly document: PolicyDocument }
  /** This program cannot read it; `reason` names the mistake. */
  | { readonly kind: 'unreadable'; readonly revision: number; readonly reason: string };

/** The result of writing a policy document. */
export type PolicyWriteResult =
  | { readonly kind: 'written'; readonly revision: number }
  /** The stored document is not the expected one: nothing was written. */
  | { readonly kind: 'overtaken' }
  /** `reason` gives the size and the bound. */
  | { readonly kind: 'too-large'; readonly reason: string }
  /** `undone`: nothing was written, and nothing will be. */
  | (Failed & { readonly undone: boolean });

export type Granted = { readonly kind: 'granted'; readonly leaseId: string; readonly ttlMs: number } | Failed;

export type Renewed =
  | { readonly kind: 'renewed'; readonly ttlMs: number; readonly revision: number }
  /** The lease has expired, and all entries under it are gone. */
  | { readonly kind: 'ended' }
  | Failed;

export type WriteResult =
  | { readonly kind: 'written'; readonly revision: number }
  /** Another write came after the given revision: nothing was written. */
  | { readonly kind: 'overtaken' }
  | { readonly kind: 'ended' }
  | Failed;

/**
 * Revisions after which no write of this member, or of any member, may exist for a write to take effect. So a write
 * that was given up and arrives late changes nothing.
 */
export interface Unless {
  readonly ownLaterThan: number;
  readonly anyLaterThan: number | undefined;
}

/** No answer in time, or a malformed one: the request may have taken effect. */
export interface Failed {
  readonly kind: 'failed';
  readonly reason: string;
}

/** Why a watch ended: the registry has dropped revisions that it lacks, or the connection broke. */
type WatchEnd = 'compacted' | 'broken';

export interface WatchListener {
  /** Called once per revision, in order, with no gap until `ended`. */
  changed(revision: number, changes: readonly Change[]): void;
  /** Called at most once, as the last call. */
  ended(why: WatchEnd): void;
}

/**
 * Keeps registrations under leases, and the policies, in one order for all nodes: etcd. No function rejects: a failure
 * is a value, and settles within `timeoutMs`. The registry counts the `ttlMs` of a lease from its grant or renewal,
 * which is later than the request. When a lease ends, the entries under it are removed.
 */
export interface Registry {
  /** All members and the policies, at a revision no older than any write that had ended before the call. */
  read(
    timeoutMs: number,
  ): Promise<({ readonly kind: 'view'; readonly stored: StoredPolicies } & RegistryView) | Failed>;
  /** @param ttlMs whole seconds; the registry may give more */
  grant(ttlMs: number, timeoutMs: number): Promise<Granted>;
  renew(leaseId: string, timeoutMs: number): Promise<Renewed>;
  /** Writes the entry of a member under a lease, unless a write that `unless` names came first. */
  write(leaseId: string, entry: Registration, unless: Unless, timeoutMs: number): Promise<WriteResult>;
  /** Ends a lease, and removes the entries under it. */
  revoke(leaseId: string, timeoutMs: number): Promise<void>;
  /** Replaces the document of this registry and revision by another one, or writes nothing. */
  storePolicies(
    document: PolicyDocument,
    inPlaceOf: { readonly registry: string; readonly revision: number },
    timeoutMs: number,
  ): Promise<PolicyWriteResult>;
  /** Reports all changes after a revision, until the returned function is called. */
  watch(after: number, listener: WatchListener): () => void;
}

/** Whether the registry answers this node. */
export class RegistryHealth {
  /** Counts of failed requests, by what was tried. */
  readonly failures = { read: 0, grant: 0, renew: 0, write: 0, watch: 0, policies: 0 };
  private answeredAtMs = -Infinity;
  private isFailing = false;

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly renewEveryMs: number,
  ) {}

  /** Whether the registry has answered within the time of two renewals. */
  isReachable(): boolean {
    return this.clock.nowMs() - this.answeredAtMs < 2 * this.renewEveryMs;
  }

  failed(what: keyof RegistryHealth['failures'], reason: string): void {
    this.failures[what] += 1;
    if (!this.isFailing) this.log.warn({ what, reason }, 'the registry does not answer');
    this.isFailing = true;
  }

  answered(): void {
    this.answeredAtMs = this.clock.nowMs();
    if (this.isFailing) this.log.info({}, 'the registry answers again');
    this.isFailing = false;
  }
}

import type { Changes } from '../../policy/policy-document.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { PeerMessage, RingWritten, Written } from '../../protocol/messages.js';
import type { PolicyAntiEntropy } from './anti-entropy.js';
import type { EntryParts } from './entry-parts.js';

export interface PolicyBackendOptions {
  /** Longest wait for the answer to one message. */
  readonly timeoutMs: number;
  /** Bound of the document as JSON. This node accepts no change that would exceed it. */
  readonly maxBytes: number;
}

/**
 * Keeps the policy document and accepts changes to it.
 * Without a registry, the owner of one ring key accepts them; with a registry, every node writes to the registry.
 */
export interface PolicyBackend {
  /**
   * Applies all changes or none.
   * @param ifMatch applies them only if the document matches one of these tags: its version, or version and digest as
   * in `12-0123456789abcdef`, or `*` if every changed entry exists; `undefined` matches any document
   */
  write(changes: Changes, ifMatch?: readonly string[]): Promise<Written>;
  /** Applies a change that a peer received. @returns `null` if this node does not accept changes for peers */
  writeForPeer(message: Extract<PeerMessage, { kind: 'write-policies' }>, from: NodeId): Promise<RingWritten | null>;
  /** Compares the document with other nodes. */
  readonly antiEntropy: Pick<PolicyAntiEntropy, 'answer' | 'fetchFrom' | 'noteDigest'>;
  readonly entryParts: Pick<EntryParts, 'answer'>;
  /**
   * Fetches the current document before this node starts to decide.
   * @param ids the members that decide now
   * @returns whether this node has the current document
   */
  catchUp(ids: readonly NodeId[]): Promise<boolean>;
  /** To be called about ten times per suspicion time. */
  tick(): void;
}

import type { Changes, PolicyDocument } from '../../core/policy-document.js';
import type { NodeId } from '../../core/ring.js';
import type { PeerMessage, RingWritten, Written } from '../messages.js';

/** Keeps the one document of policies, and takes the changes of it: the owner of a key on the ring, or a registry. */
export interface PolicyBackend {
  /** See `ReplicatedPolicies.write`. */
  write(changes: Changes, ifMatch: readonly string[] | undefined): Promise<Written>;
  /** Makes a change for a peer. @returns `null` where this node is not the one to make it */
  writeFor(message: Extract<PeerMessage, { kind: 'write-policies' }>): Promise<RingWritten | null>;
  /** What this node is to hold, having heard of what another one does. */
  reconcile(mine: PolicyDocument, theirs: PolicyDocument): PolicyDocument;
  /**
   * Learns the document, before this node decides.
   * @param ids the members that decide now
   * @returns whether this node holds what is in force
   */
  catchUp(ids: readonly NodeId[]): Promise<boolean>;
  /** Called about ten times in a suspicion time. */
  tick(): void;
}

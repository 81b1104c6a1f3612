import type { Changes } from '../../core/policy-document.js';
import type { NodeId } from '../../core/ring.js';
import type { PeerAnswer, PeerMessage, Written } from '../messages.js';
import { createPolicyAntiEntropy } from './anti-entropy.js';
import type { PolicyAntiEntropy, PolicyAntiEntropyDeps } from './anti-entropy.js';
import type { PolicyBackend } from './policy-backend.js';
import { createRegistryBackend } from './registry-backend.js';
import type { RegistryBackendDeps } from './registry-backend.js';
import type { RegistryPolicyStore } from '../membership/registry-session.js';
import { createRingBackend } from './ring-backend.js';
import type { RingBackendDeps } from './ring-backend.js';

export interface ReplicatedPolicies {
  /**
   * Changes the document, or nothing of it.
   * @param ifMatch the change is made only to a document with one of these tags: its version, or version and digest as in
   * `12-0123456789abcdef`, or `*` where it has what is to be changed; `undefined`: to any
   */
  write(changes: Changes, ifMatch?: readonly string[]): Promise<Written>;
  answerWrite(message: Extract<PeerMessage, { kind: 'write-policies' }>): Promise<PeerAnswer>;
  answerSync(message: Extract<PeerMessage, { kind: 'policies' }>): PeerAnswer;
  /** Notes which document another node holds. */
  heard(id: NodeId, digest: string): void;
  /** Compares documents with one node that holds another. */
  tick(): void;
  /** Learns the document, before this node decides, given who does. @returns whether it has */
  catchUp(ids: readonly NodeId[]): Promise<boolean>;
}

interface ReplicatedPoliciesDeps
  extends
    Omit<PolicyAntiEntropyDeps, 'reconcile'>,
    Omit<RingBackendDeps, 'antiEntropy'>,
    Omit<RegistryBackendDeps, 'antiEntropy' | 'policyStore' | 'self'> {
  /** With a registry: where it keeps the document. Else the nodes keep it among themselves. */
  readonly policyStore: RegistryPolicyStore | undefined;
}

/** The one document of policies, whoever keeps it. */
export function createReplicatedPolicies(
  deps: ReplicatedPoliciesDeps,
  options: { timeoutMs: number },
): ReplicatedPolicies {
  const { policyStore, membership } = deps;
  const antiEntropy: PolicyAntiEntropy = createPolicyAntiEntropy(
    { ...deps, reconcile: (mine, theirs) => backend.reconcile(mine, theirs) },
    options,
  );
  const backend: PolicyBackend =
    policyStore === undefined
      ? createRingBackend({ ...deps, antiEntropy }, options)
      : createRegistryBackend({ ...deps, antiEntropy, policyStore, self: membership.self.id });

  return {
    write: (changes, ifMatch) => backend.write(changes, ifMatch),
    answerWrite: async (message) => ({ kind: 'policies-written', written: await backend.writeFor(message) }),
    answerSync: antiEntropy.answer,
    heard: antiEntropy.heard,
    tick() {
      backend.tick();
      antiEntropy.tick();
    },
    catchUp: (ids) => backend.catchUp(ids),
  };
}

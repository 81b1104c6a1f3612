import type { Changes } from '../core/policy-document.js';
import type { NodeId } from '../core/ring.js';
import type { PeerAnswer, PeerMessage, Written } from './messages.js';
import { createPolicyExchange } from './policy-exchange.js';
import type { PolicyExchange, PolicyExchangeDeps } from './policy-exchange.js';
import type { PolicyKeeper } from './policy-keeper.js';
import { createRegistryKeeper } from './registry-keeper.js';
import type { RegistryKeeperDeps } from './registry-keeper.js';
import type { Registered } from './registered.js';
import { createRingKeeper } from './ring-keeper.js';
import type { RingKeeperDeps } from './ring-keeper.js';

export interface PolicyDesk {
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

export interface PolicyDeskDeps
  extends
    Omit<PolicyExchangeDeps, 'reconcile'>,
    Omit<RingKeeperDeps, 'exchange'>,
    Omit<RegistryKeeperDeps, 'exchange' | 'filing' | 'self'> {
  /** With a registry: it keeps the document. Else the nodes do among themselves. */
  readonly registered: Pick<Registered, 'enrolment'> | undefined;
}

/** The one document of policies, whoever keeps it. */
export function createPolicyDesk(deps: PolicyDeskDeps, options: { timeoutMs: number }): PolicyDesk {
  const { registered, membership } = deps;
  const exchange: PolicyExchange = createPolicyExchange(
    { ...deps, reconcile: (mine, theirs) => keeper.reconcile(mine, theirs) },
    options,
  );
  const keeper: PolicyKeeper =
    registered === undefined
      ? createRingKeeper({ ...deps, exchange }, options)
      : createRegistryKeeper({ ...deps, exchange, filing: registered.enrolment.filing, self: membership.self.id });

  return {
    write: (changes, ifMatch) => keeper.write(changes, ifMatch),
    answerWrite: async (message) => ({ kind: 'policies-written', written: await keeper.writeFor(message) }),
    answerSync: exchange.answer,
    heard: exchange.heard,
    tick() {
      keeper.tick();
      exchange.tick();
    },
    catchUp: (ids) => keeper.catchUp(ids),
  };
}

import type { ChangeList, Settled, Written } from '../../src/protocol/messages.js';
import type { Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { ClientDescription } from '../../src/limits/request/description.js';
import type { EntryValue } from '../../src/policy/policy-entry.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import type { Rule } from '../../src/limits/bucket/rule.js';

/** One request as the client saw it. */
export interface Asked {
  readonly id: number;
  readonly at: NodeId;
  readonly askedMs: number;
  /** Under a policy, its rules as who was asked had them. */
  check: Check;
  /** `undefined` when the node that was asked died first. */
  answeredMs: number | undefined;
  decision: Decision | undefined;
  /** It was told that too many checks wait, and nothing was decided. */
  overloaded?: boolean;
}

/** A second process that was started under the id of one that runs. */
export interface Duplicate {
  readonly node: NodeId;
  readonly atMs: number;
  /** Whether it found that out, and went no further. */
  refused: boolean;
}

/** One call that settles a reservation. */
export interface SettleCall {
  readonly at: NodeId;
  /** The request that reserved. */
  readonly of: Asked;
  readonly cost: number;
  readonly askedMs: number;
  answeredMs: number | undefined;
  outcome: Settled | undefined;
}

/** One change of the policies, as who wanted it saw it. */
export interface PolicyWriteCall {
  readonly at: NodeId;
  readonly changes: ChangeList;
  /** The version that it must still be, and when it was. */
  readonly ifMatch: { readonly version: number; readonly seenMs: number } | undefined;
  readonly askedMs: number;
  answeredMs: number | undefined;
  outcome: Written | undefined;
}

/** A document of policies as plain data. */
export interface HeldDocument {
  readonly version: number;
  readonly digest: string;
  readonly entries: readonly HeldEntry[];
}

export interface HeldEntry {
  readonly key: string;
  readonly value: EntryValue | null;
  readonly version: number;
  readonly writer: string;
}

/** A node that puts a document in force. */
export interface Adoption {
  readonly node: NodeId;
  /** Each start of the node is another. */
  readonly life: number;
  readonly atMs: number;
  readonly digest: string;
}

/** What a node made of a request that names a policy. */
export interface Question {
  readonly at: NodeId;
  /** When the node had it: a frozen one has it later than it was asked. */
  readonly atMs: number;
  readonly clientId: string;
  /** `null`: the default. */
  readonly policy: string | null;
  /** Digest of the document that was in force there. */
  readonly digest: string;
  /** `undefined`: it knows no such policy. */
  readonly rules: readonly Rule[] | undefined;
  readonly replicated: boolean;
  /** What the client was told. */
  decision: Decision | undefined;
}

export interface PolicyHistory {
  readonly writes: readonly PolicyWriteCall[];
  /** In the order of time. */
  readonly adoptions: readonly Adoption[];
  readonly documents: ReadonlyMap<string, HeldDocument>;
  readonly questions: readonly Question[];
}

/** What was done to the cluster, as it really went. */
export type Fault =
  /** `silent`: with its machine, so that nobody is told; `machine`: with all the nodes of that host. */
  | {
      readonly kind: 'crash';
      readonly node: NodeId;
      readonly silent: boolean;
      readonly machine?: string;
      readonly fromMs: number;
      readonly toMs: number;
    }
  /** All nodes killed at once, until all were back: with a store in which is what is older than `writeAgeMs`. */
  | { readonly kind: 'restart'; readonly writeAgeMs: number; readonly fromMs: number; readonly toMs: number }
  /** A living member was taken out, and decided on until it heard of that. */
  | {
      readonly kind: 'replaced';
      readonly node: NodeId;
      readonly heardMs: number;
      readonly fromMs: number;
      readonly toMs: number;
    }
  | { readonly kind: 'freeze'; readonly node: NodeId; readonly fromMs: number; readonly toMs: number }
  | {
      readonly kind: 'partition';
      readonly sides: readonly (readonly NodeId[])[];
      readonly fromMs: number;
      readonly toMs: number;
    }
  | {
      readonly kind: 'one-way';
      readonly from: readonly NodeId[];
      readonly to: readonly NodeId[];
      readonly fromMs: number;
      readonly toMs: number;
    }
  /** Nothing that `from` sent reached `to`, though no partition was made: the network lost it all. */
  | {
      readonly kind: 'silence';
      readonly from: NodeId;
      readonly to: NodeId;
      readonly fromMs: number;
      readonly toMs: number;
    }
  /** Messages came late; and connections broke. */
  | { readonly kind: 'lossy'; readonly broken: boolean; readonly fromMs: number; readonly toMs: number }
  /** Planned: excuses nothing. */
  | { readonly kind: 'join' | 'leave'; readonly node: NodeId; readonly fromMs: number; readonly toMs: number };

/** What one node says at the end, when all has been calm for a while. */
export interface Statement {
  readonly node: NodeId;
  readonly members: readonly NodeId[];
  readonly owners: readonly { readonly owner: NodeId | undefined; readonly successors: readonly NodeId[] }[];
  readonly clients: readonly ClientDescription[];
  /** Digest of the document of policies. */
  readonly policies?: string;
}

/** All that the checker sees of a run. */
export interface History {
  readonly asked: readonly Asked[];
  /** In the order of time. */
  readonly settles?: readonly SettleCall[];
  readonly policies?: PolicyHistory;
  readonly faults: readonly Fault[];
  /** In the order of `clientIds`. */
  readonly statements: readonly Statement[];
  readonly clientIds: readonly string[];
  /** Counters of the rings of each node that ran from the start to the end. */
  readonly rings?: readonly { readonly node: NodeId; readonly atUp: number; readonly atEnd: number }[];
  readonly duplicates?: readonly Duplicate[];
  /** Clients of which tokens may have been lent, and how many tokens at most in the whole run. */
  readonly leased: ReadonlyMap<string, number>;
  /** When the cluster was up, when the last fault ended, when the statements were made. */
  readonly upMs: number;
  readonly calmMs: number;
  readonly endMs: number;
  readonly setting: Setting;
}

/** What the bounds are made of. */
export interface Setting {
  readonly replicas: number;
  readonly replicationIntervalMs: number;
  readonly suspectAfterMs: number;
  /** Checks that a node lets wait for a peer, where so few that they may be too many. */
  readonly maxQueued?: number | undefined;
  /** The longest that a message takes one way, where none is lost. */
  readonly delayMs: number;
  /** How long an answer may take besides a few messages: while nothing is wrong, and where a dead owner refuses connections. */
  readonly promptMs: number;
  /** By how much it may not be known when a fault began and ended. */
  readonly faultErrorMs: number;
  /** By how much a clock may be fast or slow. */
  readonly clockError: number;
  /** Ms that a span may gain where a bucket is timed by clocks in whole ms that are not the checker's. */
  readonly clockGrainMs: number;
  /** How long after its acknowledgement a change of the policies may be unknown to nodes; 0 where it waits for them. */
  readonly policyLagMs?: number;
  /** Nodes running at the end. */
  readonly alive: readonly NodeId[];
}

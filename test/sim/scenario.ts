import type { ChangeList } from '../../src/protocol/messages.js';
import type { EntryValue } from '../../src/policy/policy-entry.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import type { Rule } from '../../src/limits/bucket/rule.js';

/** One run, written out: plain data that a seed decides and that a shrinker can cut down. */
export interface Scenario {
  /** Decides what the network does; all else is written here. */
  readonly seed: number;
  readonly theme: Theme;
  readonly replicas: number;
  readonly replicationIntervalMs: number;
  readonly suspectAfterMs: number;
  /** With how many others a node exchanges heartbeats; with all of them if there are no more. */
  readonly neighbours?: number | undefined;
  /** In a world with an etcd: one node at most decides, and what nobody may decide is denied. */
  readonly strict?: boolean;
  /** Checks that a node lets wait for a peer, where it is not the usual. */
  readonly maxQueued?: number | undefined;
  readonly nodes: readonly NodePlan[];
  readonly network: NetworkPlan;
  /** What a node is told of the others: all of them, or one that is up, another each time. */
  readonly discovery: 'all' | 'one';
  readonly steps: readonly Step[];
  readonly requests: readonly Request[];
  /** What all nodes begin with, as from one file. */
  readonly policies?: Policies | undefined;
  /** Changes of it. */
  readonly writes?: readonly PolicyWrite[];
  /** How long requests come; the faults are over by then. */
  readonly loadMs: number;
}

export const THEMES = ['calm', 'planned', 'crash', 'freeze', 'partition', 'one-way', 'lossy', 'mixed'] as const;
export type Theme = (typeof THEMES)[number];

export interface NodePlan {
  readonly id: NodeId;
  readonly clockOffsetMs: number;
  readonly clockRate: number;
  /** Ms that each message from or to it takes longer. */
  readonly slowMs: number;
  /** When it is first started, from the beginning; `undefined`: by a step. */
  readonly startMs: number | undefined;
}

export interface NetworkPlan {
  /** Each message takes from `minMs` to `maxMs`; so they overtake each other. */
  readonly minMs: number;
  readonly maxMs: number;
}

/** Something that happens to the cluster, counted from when it is up. */
export type Step = { readonly atMs: number } & (
  | {
      readonly kind: 'crash';
      readonly node: NodeId;
      readonly silent: boolean;
      readonly backAfterMs: number | undefined;
    }
  /** All nodes of a host die at once, and nobody is told. */
  | { readonly kind: 'machine-crash'; readonly host: string; readonly backAfterMs: number | undefined }
  | { readonly kind: 'freeze'; readonly node: NodeId; readonly forMs: number; readonly timersFirst: boolean }
  /** It stops again and again, each time for too short to be away: garbage collection, a busy machine. */
  | {
      readonly kind: 'pauses';
      readonly node: NodeId;
      readonly forMs: number;
      readonly everyMs: number;
      readonly times: number;
    }
  /** Somebody starts a second process under the id of a node that runs; its address leads to the first. */
  | { readonly kind: 'duplicate'; readonly node: NodeId }
  /** Messages between two of the groups are lost. */
  | { readonly kind: 'partition'; readonly sides: readonly (readonly NodeId[])[]; readonly forMs: number }
  /** Messages one way are lost. */
  | {
      readonly kind: 'one-way';
      readonly from: readonly NodeId[];
      readonly to: readonly NodeId[];
      readonly forMs: number;
    }
  /** Of so many packets each is lost: its message comes late by a retransmission or two, or its connection breaks. */
  | { readonly kind: 'lossy'; readonly lost: number; readonly broken: number; readonly forMs: number }
  | { readonly kind: 'join'; readonly node: NodeId }
  /** All nodes of a host are stopped together. */
  | { readonly kind: 'machine-leave'; readonly host: string; readonly backAfterMs: number | undefined }
  | { readonly kind: 'leave'; readonly node: NodeId; readonly backAfterMs: number | undefined }
  | { readonly kind: 'rolling-restart' }
);

export type StepOf<K extends Step['kind']> = Extract<Step, { kind: K }>;

export interface Request {
  /** From when the cluster is up. */
  readonly atMs: number;
  readonly clientId: string;
  /** Preferred node: an index, of those that live then. */
  readonly node: number;
  readonly rules: readonly Rule[];
  readonly cost: number;
  readonly peek: boolean;
  readonly requestId: string | undefined;
  readonly replicated: boolean;
  /** Asks by policy, instead of by rules: by this one, or for `null` the default. */
  readonly policy?: string | null;
  /** What is taken is reserved, and settled as this says. */
  readonly settles?: readonly SettlePlan[];
  /** Asks again as soon as `retryAfterMs` says that it may, at another node. */
  readonly retries: number;
}

/** One call that settles what a request has reserved, if it has. */
export interface SettlePlan {
  /** Ms from the answer. */
  readonly afterMs: number;
  readonly node: number;
  readonly cost: number;
}

export interface Policies {
  readonly entries: readonly (readonly [key: string, value: EntryValue])[];
  /** Whether a node that comes back has the document that it held, as from a file of its own. */
  readonly kept: boolean;
}

export interface PolicyWrite {
  readonly atMs: number;
  readonly node: number;
  readonly changes: ChangeList;
  /** With `If-Match`: the version that this node, an index, held so many ms before. */
  readonly ifMatch: { readonly node: number; readonly beforeMs: number } | undefined;
}

import type { NodeId } from '../core/ring.js';
import type { Algorithm } from '../core/rule.js';

/** What a node knows of a client's consumption, for people. */
export interface ClientDescription {
  readonly clientId: string;
  readonly owner: NodeId;
  readonly buckets: readonly BucketDescription[];
}

export interface BucketDescription {
  readonly policy: string | undefined;
  readonly algorithm: Algorithm;
  readonly windowMs: number;
  readonly limit: number;
  /** Whole tokens that could be taken now. */
  readonly remaining: number;
  /** Whole ms, rounded up, until nothing of the consumption is left. */
  readonly resetMs: number;
}

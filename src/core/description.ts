import type { NodeId } from './ring.js';
import type { Algorithm } from './rule.js';

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
  /**
   * The last one asked with that was not 0. A limit of 0 comes with its request and has no rate, so the bucket keeps the one
   * at which what was consumed decays; and to whom it denies the first request there is no bucket at all.
   */
  readonly limit: number;
  /** Whole tokens that could be taken now. */
  readonly remaining: number;
  /** Whole ms, rounded up, until nothing of the consumption is left. */
  readonly resetMs: number;
}

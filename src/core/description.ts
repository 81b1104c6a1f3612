import type { NodeId } from './ring.js';
import type { Algorithm } from './rule.js';

/** The consumption of a client, as its owner knows it. */
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
   * The last limit above 0 that was asked with. A limit of 0 has no rate, so the bucket keeps the limit at which its debt
   * decays. A client that was only ever denied by a limit of 0 has no bucket.
   */
  readonly limit: number;
  /** Whole tokens that can be taken now. */
  readonly remaining: number;
  /** Whole ms, rounded up, until the bucket is full again. */
  readonly resetMs: number;
}

import type { NodeId } from '../ring/ring.js';
import type { Algorithm } from '../bucket/rule.js';

/** The consumption of a client according to its owner. */
export interface ClientDescription {
  readonly clientId: string;
  readonly owner: NodeId;
  readonly buckets: readonly BucketDescription[];
}

export interface BucketDescription {
  readonly scope: string | undefined;
  readonly policy: string | undefined;
  readonly algorithm: Algorithm;
  readonly windowMs: number;
  /**
   * The limit of the last check with a limit above 0. A limit of 0 has no rate, so the bucket keeps the limit at which
   * its debt decays. A client that only had checks with a limit of 0 has no bucket.
   */
  readonly limit: number;
  /** Whole tokens that can be taken now. */
  readonly remaining: number;
  /** Whole ms, rounded up, until the bucket is full again. */
  readonly resetMs: number;
}

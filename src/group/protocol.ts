import type { MetricObjectWithValues, MetricValue } from 'prom-client';
import type { NodeId } from '../core/ring.js';
import type { Settings } from '../setting-table.js';

/** The metrics of one process, as prom-client's registry gives them in JSON. */
export type Stats = readonly MetricObjectWithValues<MetricValue<string>>[];

/** Messages from the supervisor to a worker. */
export type ToWorker =
  /** Run a node with these settings, which are this worker's own. */
  | { readonly kind: 'start'; readonly settings: Settings }
  /** The ids of all workers. Sent once all of them listen to peers, and after each change. */
  | { readonly kind: 'siblings'; readonly ids: readonly NodeId[] }
  /** Whether all workers are in the ring, and none is stopping. */
  | { readonly kind: 'whole'; readonly whole: boolean }
  /** Leave the ring, together with these members. */
  | { readonly kind: 'stop'; readonly ids: readonly NodeId[] }
  /**
   * All workers that still run have reached this round of the barrier, or never will. `ids` are the workers that have.
   */
  | { readonly kind: 'barrier-passed'; readonly round: number; readonly ids: readonly NodeId[] }
  /** All workers have answered their requests in flight, so no worker needs this one any more. */
  | { readonly kind: 'close' }
  /** Send your metrics. */
  | { readonly kind: 'collect'; readonly request: number }
  /** The metrics of the group: the answer to `scrape`. */
  | { readonly kind: 'metrics'; readonly request: number; readonly text: string };

/** Messages from a worker to the supervisor. */
export type FromWorker =
  /** The worker receives messages from now on. */
  | { readonly kind: 'connected' }
  /** The event loop of the worker turns. Sent twice per suspicion time. */
  | { readonly kind: 'alive' }
  | { readonly kind: 'listening'; readonly id: NodeId; readonly peerPort: number }
  /** The worker is in the ring, and answers. */
  | { readonly kind: 'up' }
  /** The worker cannot start. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'at-barrier'; readonly round: number }
  /** The worker has left the ring, and has answered its requests in flight. */
  | { readonly kind: 'drained' }
  | { readonly kind: 'collected'; readonly request: number; readonly stats: Stats }
  /** Send the metrics of the group. */
  | { readonly kind: 'scrape'; readonly request: number };

import type { MetricObjectWithValues, MetricValue } from 'prom-client';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Settings } from '../settings/setting-table.js';

/** The metrics of one process, as prom-client's registry gives them in JSON. */
export type Stats = readonly MetricObjectWithValues<MetricValue<string>>[];

/** A public port of the group: that of the API, of Envoy's rate limit service, or of the Redis protocol. */
export type Protocol = 'http' | 'grpc' | 'resp';

/** A worker, as the other workers know it. */
export interface Sibling {
  readonly id: NodeId;
  /** Its Unix socket. Without one, it is reached as by other machines. */
  readonly socketPath: string | undefined;
}

/** Messages from the supervisor to a worker. */
export type ToWorker =
  /** Run a node with these settings, and with this Unix socket for the other workers. Both are this worker's own. */
  | { readonly kind: 'start'; readonly settings: Settings; readonly socketPath: string | undefined }
  /** All workers. Sent once all of them listen to peers, and after each change. */
  | { readonly kind: 'siblings'; readonly siblings: readonly Sibling[] }
  /** Whether all workers are in the ring, and none is stopping. */
  | { readonly kind: 'whole'; readonly whole: boolean }
  /** Leave the ring, together with these members. */
  | { readonly kind: 'stop'; readonly ids: readonly NodeId[] }
  /**
   * All workers that still run have reached this round of the barrier, or never will. `ids` are the workers that have.
   */
  | { readonly kind: 'barrier-passed'; readonly round: number; readonly ids: readonly NodeId[] }
  /** A connection of a public port comes with this message. Answer `taken` or `returned`. */
  | { readonly kind: 'connection'; readonly number: number; readonly protocol: Protocol }
  /** All workers have answered their requests in flight, so no worker needs this one any more. */
  | { readonly kind: 'close' }
  /** Send your metrics. */
  | { readonly kind: 'collect'; readonly request: number }
  /** The metrics of the group: the answer to `scrape`. */
  | { readonly kind: 'metrics'; readonly request: number; readonly text: string };

/** The ports on which a worker listens alone. A restarted worker uses them again. */
export interface WorkerPorts {
  readonly peerPort: number;
  /** Its own port of the public API; `none` if there is none. */
  readonly workerPort: number | 'none';
}

/** Messages from a worker to the supervisor. */
export type FromWorker =
  /** The worker receives messages from now on. */
  | { readonly kind: 'connected' }
  /** The event loop of the worker turns. Sent twice per suspicion time. */
  | { readonly kind: 'alive' }
  | { readonly kind: 'listening'; readonly id: NodeId; readonly ports: WorkerPorts }
  /** The worker is in the ring, and answers. It takes connections. */
  | { readonly kind: 'up' }
  /** The worker answers this connection. */
  | { readonly kind: 'taken'; readonly number: number }
  /** The worker did not take this connection, and has not read from it. */
  | { readonly kind: 'returned'; readonly number: number }
  /** The worker takes no more connections. */
  | { readonly kind: 'closing' }
  /** The worker cannot start. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'at-barrier'; readonly round: number }
  /** The worker has left the ring, and has answered its requests in flight. */
  | { readonly kind: 'drained' }
  | { readonly kind: 'collected'; readonly request: number; readonly stats: Stats }
  /** Send the metrics of the group. */
  | { readonly kind: 'scrape'; readonly request: number };

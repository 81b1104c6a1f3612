import type { MetricObjectWithValues, MetricValue } from 'prom-client';
import type { NodeId } from '../core/ring.js';
import type { Settings } from '../setting-table.js';

/** The figures of one worker, as its registry gives them. */
export type Figures = readonly MetricObjectWithValues<MetricValue<string>>[];

/** What the supervisor tells a worker. */
export type ToWorker =
  /** Be the node of these settings, which are this worker's own. */
  | { readonly kind: 'start'; readonly settings: Settings }
  /** All workers that listen to peers by now; for the first time when all do, so that those who start together find each other. */
  | { readonly kind: 'siblings'; readonly ids: readonly NodeId[] }
  /** Whether all workers are in the ring, and none is stopping. */
  | { readonly kind: 'whole'; readonly whole: boolean }
  /** Leave, together with these. */
  | { readonly kind: 'stop'; readonly ids: readonly NodeId[] }
  /** All that are still there have called for this round, or will not: those that have. */
  | { readonly kind: 'met'; readonly round: number; readonly ids: readonly NodeId[] }
  /** All have answered what was in flight: nobody needs this worker any more. */
  | { readonly kind: 'close' }
  /** Send your figures. */
  | { readonly kind: 'collect'; readonly request: number }
  /** The figures of all, as you asked. */
  | { readonly kind: 'metrics'; readonly request: number; readonly text: string };

/** What a worker tells the supervisor. */
export type FromWorker =
  /** It hears: what is sent before is lost. */
  | { readonly kind: 'hears' }
  /** Said again and again: its event loop turns. */
  | { readonly kind: 'alive' }
  | { readonly kind: 'listening'; readonly id: NodeId; readonly peerPort: number }
  /** It is in the ring, and answers. */
  | { readonly kind: 'up' }
  /** It cannot start. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'meets'; readonly round: number }
  /** It has left, and answered what was in flight. */
  | { readonly kind: 'drained' }
  | { readonly kind: 'collected'; readonly request: number; readonly figures: Figures }
  /** Wants the figures of all. */
  | { readonly kind: 'scrape'; readonly request: number };

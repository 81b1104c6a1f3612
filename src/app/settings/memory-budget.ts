import { getHeapStatistics } from 'node:v8';
import type { StateBounds } from '../../node/wiring.js';
import { policyBytesIn, MAX_DOCUMENT_BYTES } from '../../policy/policy-document.js';

const MIB = 1024 * 1024;
/** Memory of a node that holds nothing, measured: objects on the heap, and everything outside it. */
const IDLE_HEAP_MIB = 40;
const IDLE_OUTSIDE_MIB = 72;
/** Smallest budget. With less, a node would hold next to nothing. */
export const MIN_MEMORY_MB = 192;

/** Every bound on memory of one node, in bytes where the name says so. */
export interface MemoryBounds {
  readonly state: StateBounds;
  /** Bodies of decisions that are arriving. */
  readonly maxArrivingBytes: number;
  /** Bodies of other requests that are arriving. */
  readonly maxOtherArrivingBytes: number;
  /** Answers that callers have not read. */
  readonly maxUnreadBytes: number;
  /** Requests for decisions that wait for other nodes, or for their turn. */
  readonly maxWaitingBytes: number;
  /** Connections of the public API. */
  readonly maxConnections: number;
}

/** Measured bytes of a connection: its objects, and a part of a request's headers, which may have 16 KiB. */
const CONNECTION_BYTES = 24_000;
/** Above this, more memory for bodies and answers helps no caller. */
const MAX_TRANSIT_BYTES = 64 * MIB;
const MAX_OTHER_TRANSIT_BYTES = 16 * MIB;
const MAX_CONNECTIONS = 1_000_000;

/**
 * Derives every bound from one budget. All of them together fit into it when full.
 *
 * Node.js bounds its heap, by default to half of a container. The rest holds the records of clients and the buffers. So
 * the parts are those of two rooms. They leave 40% of the heap for garbage and for what lives for one request. They
 * leave a third outside for messages between nodes, and for pages of which only some records are still in use.
 * @param memoryMb the budget of one node in MiB; less than `MIN_MEMORY_MB` counts as that
 * @param heapMb the bound of the heap in MiB
 */
export function memoryBounds(memoryMb: number, heapMb: number): MemoryBounds {
  const memory = Math.max(MIN_MEMORY_MB, memoryMb);
  const heap = Math.min(heapMb, memory / 2);
  const ofHeap = (part: number): number => Math.floor((heap - IDLE_HEAP_MIB) * MIB * part);
  const ofRest = (part: number): number => Math.floor((memory - heap - IDLE_OUTSIDE_MIB) * MIB * part);
  return {
    state: {
      maxRecordBytes: ofRest(0.4),
      maxClientHeapBytes: ofHeap(0.18),
      maxRecentBytes: ofHeap(0.09),
      maxReservationBytes: ofHeap(0.09),
      maxFallbackBytes: Math.min(ofHeap(0.03), ofRest(0.04)),
      maxDenialBytes: ofHeap(0.02),
      maxAnswerBytes: ofHeap(0.03),
      maxWaitingCheckBytes: ofHeap(0.02),
      maxPolicyBytes: Math.min(MAX_DOCUMENT_BYTES, policyBytesIn(ofHeap(0.08))),
    },
    maxWaitingBytes: ofHeap(0.06),
    maxArrivingBytes: Math.min(MAX_TRANSIT_BYTES, ofRest(0.08)),
    maxOtherArrivingBytes: Math.min(MAX_OTHER_TRANSIT_BYTES, ofRest(0.02)),
    maxUnreadBytes: Math.min(MAX_TRANSIT_BYTES, ofRest(0.08)),
    maxConnections: Math.min(MAX_CONNECTIONS, Math.floor(ofRest(0.14) / CONNECTION_BYTES)),
  };
}

/** Memory of the process that starts the workers, measured. */
const SUPERVISOR_MIB = 64;
/** V8 gives the young objects of a heap up to three of its semi-spaces, each a power of two. */
const SEMI_SPACES = 3;
const MAX_SEMI_SPACE_MIB = 64;

/**
 * Returns the budget of each node of a process or a group of workers, in MiB.
 * @param memoryMb the budget of all together
 */
export function nodeMemoryMb(memoryMb: number, workers: number): number {
  const ofWorkers = workers === 1 ? memoryMb : memoryMb - SUPERVISOR_MIB;
  return Math.floor(ofWorkers / workers);
}

/**
 * Returns the options of Node.js that bound the heap of a worker to half of its budget. By default, each of them would
 * take the bound that is meant for the whole container.
 * @param memoryMb the budget of one worker
 * @param heapMb the bound of the heap of the process that starts it
 */
export function heapOptions(memoryMb: number, heapMb: number): string[] {
  const heap = Math.min(heapMb, Math.max(MIN_MEMORY_MB, memoryMb) / 2);
  const semiSpace = Math.min(MAX_SEMI_SPACE_MIB, 2 ** Math.floor(Math.log2(heap / 16)));
  return [`--max-old-space-size=${Math.floor(heap - SEMI_SPACES * semiSpace)}`, `--max-semi-space-size=${semiSpace}`];
}

/** Returns the bound of this process's heap, in MiB. */
export function heapLimitMb(): number {
  return getHeapStatistics().heap_size_limit / MIB;
}

/**
 * Returns the memory that this process may use, in MiB: the limit of its container, or else twice the limit of its
 * heap.
 */
export function availableMemoryMb(): number {
  // Without a limit, the system names one larger than any machine.
  const bytes = process.constrainedMemory();
  return Math.floor(bytes > 0 && bytes < 2 ** 50 ? bytes / MIB : 2 * heapLimitMb());
}

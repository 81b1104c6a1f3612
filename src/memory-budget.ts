import { readFileSync } from 'node:fs';
import { getHeapStatistics } from 'node:v8';

const MIB = 1024 * 1024;
/** Memory of a node that holds nothing: the program, its code, and room for the garbage collector. */
const BASE_MIB = 128;
/** Smallest budget. With less, a node would hold next to nothing. */
export const MIN_MEMORY_MB = 192;

/** Every bound on memory of one node. */
export interface MemoryBounds {
  /** Clients in the bucket table. */
  readonly maxClients: number;
  /** Request ids that the node remembers. */
  readonly maxRecentDecisions: number;
  readonly maxReservations: number;
  /** Clients that the node decides without their owner. */
  readonly maxFallbackClients: number;
  /** Denials that the node remembers for clients of other owners. */
  readonly maxDenials: number;
  /** Bytes of request bodies that are arriving. */
  readonly maxArrivingBytes: number;
  /** Bytes of answers that callers have not read. */
  readonly maxUnreadBytes: number;
  /** Connections of the public API. */
  readonly maxConnections: number;
}

/**
 * The part of the budget that each kind may take, the largest size of one in bytes, and a bound that more memory does
 * not raise. The sizes of clients, request ids, and reservations are measured with ids of 256 bytes, a second bucket for
 * each client, and eight limits. Those of denials and connections are estimated. The parts leave a fifth for short-lived
 * memory: messages, queues, answers, garbage.
 */
const PARTS: Readonly<
  Record<keyof MemoryBounds, { readonly part: number; readonly bytes: number; readonly most: number }>
> = {
  maxClients: { part: 0.4, bytes: 700, most: 2 ** 24 },
  maxRecentDecisions: { part: 0.08, bytes: 2_000, most: 100_000 },
  maxReservations: { part: 0.08, bytes: 2_500, most: 100_000 },
  maxFallbackClients: { part: 0.04, bytes: 700, most: 100_000 },
  maxDenials: { part: 0.01, bytes: 1_000, most: 16_384 },
  maxArrivingBytes: { part: 0.06, bytes: 1, most: 64 * MIB },
  maxUnreadBytes: { part: 0.06, bytes: 1, most: 64 * MIB },
  maxConnections: { part: 0.08, bytes: 16_000, most: 1_000_000 },
};

/**
 * Derives every bound from one budget. All of them together fit into it when full.
 * @param memoryMb the budget of one node in MiB, at least `MIN_MEMORY_MB`; workers have an equal share each
 */
export function memoryBounds(memoryMb: number): MemoryBounds {
  const room = (memoryMb - BASE_MIB) * MIB;
  const bound = ({ part, bytes, most }: (typeof PARTS)[keyof MemoryBounds]): number =>
    Math.min(most, Math.floor((room * part) / bytes));
  return Object.fromEntries(Object.entries(PARTS).map(([name, one]) => [name, bound(one)])) as unknown as MemoryBounds;
}

/**
 * Returns the memory that this process may use, in MiB: the limit of its container, or else the heap limit of Node.js.
 */
export function availableMemoryMb(): number {
  for (const path of ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes']) {
    try {
      const bytes = Number(readFileSync(path, 'utf8'));
      // A limit larger than any machine means no limit.
      if (bytes > 0 && bytes < 2 ** 50) return Math.floor(bytes / MIB);
    } catch {
      // The system has another version of cgroups, or none.
    }
  }
  return Math.floor(getHeapStatistics().heap_size_limit / MIB);
}

import { TokenringError } from '../../core/error.js';

/**
 * The memory for requests that wait for other nodes, or for their turn. Batches take at most half of it, so that they
 * shut out no single check. The last request of each kind may exceed the bound.
 */
interface WaitingMemory {
  /** @throws TokenringError `overloaded` if requests that wait take all of the memory for this kind */
  requireRoom(kind: 'check' | 'batch'): void;
  /** Counts the bytes of a request until `later` settles. */
  charge(bytes: number, later: Promise<void>): Promise<void>;
}

export function createWaitingMemory(maxBytes: number): WaitingMemory {
  let waitingBytes = 0;

  return {
    requireRoom(kind) {
      if (waitingBytes < (kind === 'batch' ? maxBytes / 2 : maxBytes)) return;
      throw new TokenringError('overloaded', { detail: 'requests that wait for other nodes take too much memory' });
    },
    async charge(bytes, later) {
      waitingBytes += bytes;
      try {
        await later;
      } finally {
        waitingBytes -= bytes;
      }
    },
  };
}

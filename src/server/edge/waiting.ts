import { TokenringError } from '../../lib/error.js';

export interface WaitingBounds {
  /** Requests that wait at once. */
  readonly maxInFlight: number;
  /** Their memory. Batches take at most half of it, so that they shut out no single check. */
  readonly maxWaitingBytes: number;
}

/**
 * The requests of all servers that wait for other nodes, or for their turn. Arriving requests do not count, as a slow
 * sender must not shut others out.
 */
export interface Waiting {
  /** Whether as many requests wait as may wait. */
  isFull(): boolean;
  /** @throws TokenringError `overloaded` if as many requests wait as may wait */
  requirePlace(): void;
  /**
   * The last request of each kind may exceed the bound.
   * @throws TokenringError `overloaded` if requests that wait take all of the memory for this kind
   */
  requireRoom(kind: 'check' | 'batch'): void;
  /** Counts a request until `later` settles, and calls `fail` if it rejects. */
  wait(later: Promise<void>, fail: (error: unknown) => void): void;
  /** Counts the bytes of a request until `later` settles. */
  charge(bytes: number, later: Promise<void>): Promise<void>;
}

export function createWaiting({ maxInFlight, maxWaitingBytes }: WaitingBounds): Waiting {
  let requests = 0;
  let waitingBytes = 0;

  return {
    isFull: () => requests >= maxInFlight,
    requirePlace() {
      if (requests >= maxInFlight)
        throw new TokenringError('overloaded', { detail: 'too many requests are in flight' });
    },
    requireRoom(kind) {
      if (waitingBytes < (kind === 'batch' ? maxWaitingBytes / 2 : maxWaitingBytes)) return;
      throw new TokenringError('overloaded', { detail: 'requests that wait for other nodes take too much memory' });
    },
    wait(later, fail) {
      requests += 1;
      const done = (): void => void (requests -= 1);
      // One promise, as this is the path of each forwarded check; `catch` and `finally` make six.
      later.then(done, (error: unknown) => {
        done();
        fail(error);
      });
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

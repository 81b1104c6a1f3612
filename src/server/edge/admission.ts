import { TokenringError } from '../../lib/error.js';

/**
 * Admits requests of all servers that wait for other nodes, or for their turn, up to two bounds. Arriving requests do
 * not count, as a slow sender must not shut others out.
 */
export class Admission {
  private requests = 0;
  private waitingBytes = 0;

  /**
   * @param maxInFlight requests that wait at once
   * @param maxWaitingBytes their memory; batches take at most half of it, so that they shut out no single check
   */
  constructor(
    private readonly maxInFlight: number,
    private readonly maxWaitingBytes: number,
  ) {}

  /** Whether as many requests wait as may wait. */
  isFull(): boolean {
    return this.requests >= this.maxInFlight;
  }

  /** @throws TokenringError `overloaded` if as many requests wait as may wait */
  requireCapacity(): void {
    if (this.isFull()) throw new TokenringError('overloaded', { detail: 'too many requests are in flight' });
  }

  /**
   * The last request of each kind may exceed the bound.
   * @throws TokenringError `overloaded` if requests that wait take all of the memory for this kind
   */
  requireMemory(kind: 'check' | 'batch'): void {
    if (this.waitingBytes < (kind === 'batch' ? this.maxWaitingBytes / 2 : this.maxWaitingBytes)) return;
    throw new TokenringError('overloaded', { detail: 'requests that wait for other nodes take too much memory' });
  }

  /** Counts a request until `later` settles, and calls `fail` if it rejects. */
  wait(later: Promise<void>, fail: (error: unknown) => void): void {
    this.requests += 1;
    const done = (): void => void (this.requests -= 1);
    // One promise, as this is the path of each forwarded check; `catch` and `finally` make six.
    later.then(done, (error: unknown) => {
      done();
      fail(error);
    });
  }

  /** Counts the bytes of a request until `later` settles. */
  async charge(bytes: number, later: Promise<void>): Promise<void> {
    this.waitingBytes += bytes;
    try {
      await later;
    } finally {
      this.waitingBytes -= bytes;
    }
  }
}

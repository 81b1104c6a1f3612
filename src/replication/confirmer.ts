import type { Acknowledger } from './acknowledger.js';
import type { Replicator } from './replicator.js';

/** Lets other nodes know the state of clients before an answer that relies on it. */
export class Confirmer {
  constructor(
    private readonly replicator: Pick<Replicator, 'replicateNow'>,
    /** Present in strict mode. */
    private readonly acknowledger: Acknowledger | undefined,
  ) {}

  /** In strict mode: a decision, a lease, or a settled cost counts only once all that may decide next know of it. */
  get isStrict(): boolean {
    return this.acknowledger !== undefined;
  }

  /**
   * Sends the present state of these clients to other nodes.
   * @param to see `Replicator.replicateNow`; in strict mode, all that may decide next
   * @returns the clients that these nodes know now
   */
  confirm(clientIds: readonly string[], to: 'synchronous' | 'all'): Promise<ReadonlySet<string>> {
    return this.acknowledger?.acknowledgeAll(clientIds) ?? this.replicator.replicateNow(clientIds, to);
  }
}

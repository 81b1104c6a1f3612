import type { NodeId } from '../limits/ring/ring.js';

export interface Discovery {
  /** Addresses of possible members, this node perhaps among them. Never rejects; called repeatedly. */
  seeds(): Promise<readonly NodeId[]>;
}

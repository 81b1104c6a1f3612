import type { NodeId } from '../limits/ring/ring.js';

export interface Discovery {
  /** Addresses of possible members, this node perhaps among them. Never rejects; called repeatedly. */
  seeds(): Promise<readonly NodeId[]>;
}

/** Finds the peers of the settings. A part of the cluster is enough, and this node may be among them. */
export class StaticDiscovery implements Discovery {
  constructor(private readonly peers: readonly NodeId[]) {}

  seeds(): Promise<readonly NodeId[]> {
    return Promise.resolve([...new Set(this.peers)]);
  }
}

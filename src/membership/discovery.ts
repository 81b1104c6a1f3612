import type { NodeId } from '../limits/ring/ring.js';

export interface Discovery {
  /** Addresses of possible members, this node perhaps among them. Never rejects; called repeatedly. */
  seeds(): Promise<readonly NodeId[]>;
}

/** Finds the peers of the settings. A part of the cluster is enough, and this node may be among them. */
export function createStaticDiscovery(peers: readonly NodeId[]): Discovery {
  const seeds = Promise.resolve([...new Set(peers)]);
  return { seeds: () => seeds };
}

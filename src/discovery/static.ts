import type { Discovery } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';

/** The peers that the settings name, some of which are enough, this node perhaps among them. */
export function createStaticDiscovery(peers: readonly NodeId[]): Discovery {
  const seeds = Promise.resolve([...new Set(peers)]);
  return { seeds: () => seeds };
}

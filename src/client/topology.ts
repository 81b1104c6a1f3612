import { createRing, ringChecksum } from '../core/ring.js';
import type { NodeId, Ring } from '../core/ring.js';
import type { ClusterView } from './read-answer.js';

/** Where nodes are, and which of them is best asked about a client. */
export interface Topology {
  /** The addresses to ask about a client, best first: its owner, those that take over from it, then all others. */
  addresses(key: string): Generator<string, void, undefined>;
  /** The id of the node that owns a client, as far as this client knows. */
  ownerOf(key: string): NodeId | undefined;
  /** Takes over what a node at this address says of the members. @returns whether that is news */
  learn(address: string, view: ClusterView): boolean;
  /** Notes that an address answers. @returns whether that is news */
  answers(address: string): boolean;
  /** Notes that an address has failed: it is the last to be asked until it answers. */
  fails(address: string): void;
  /** Those that are not known to answer. */
  unproven(): readonly string[];
  /** Any that is likely to answer, another one each time. */
  any(): string;
}

/** Clients whose owner is remembered. */
const CACHED_CLIENTS = 16_384;

/**
 * A member's address counts only once it has answered from here: it is as the node sees it, and may lead nowhere, or to somebody else,
 * from another network. Until then its clients are asked about at the next on the ring, or where `nodes` says.
 * @param nodes origins that were given: they need no proof
 */
export function createTopology(nodes: readonly string[]): Topology {
  const secure = nodes.every((node) => node.startsWith('https:'));
  let ring: Ring | undefined;
  let urls = new Map<NodeId, string>();
  const proven = new Set<string>(nodes);
  const failing = new Set<string>();
  let turn = 0;

  const isUp = (address: string | undefined): address is string =>
    address !== undefined && proven.has(address) && !failing.has(address);

  /** The seeds, from another one on each time. */
  function* seeds(): Generator<string, void, undefined> {
    turn = (turn + 1) % nodes.length;
    for (let i = 0; i < nodes.length; i += 1) yield nodes[(turn + i) % nodes.length]!;
  }

  /** @returns whether the members, or their addresses, are others than before */
  function takeOver({ ringChecksum: checksum, members }: ClusterView): boolean {
    const next = new Map<NodeId, string>();
    for (const { id, url } of members) {
      // A token that was to go over TLS alone goes nowhere else because a node says so.
      if (url !== undefined && !(secure && url.startsWith('http:'))) next.set(id, url);
    }
    const ids = members.map(({ id }) => id);
    const isNew = ring?.checksum !== checksum;
    const isSame = !isNew && next.size === urls.size && [...next].every(([id, url]) => urls.get(id) === url);
    if (isSame) return false;
    if (isNew) {
      // Another checksum than these members give: a ring that is made otherwise. Then any node is as good as another.
      const known = ids.length > 0 && ringChecksum(ids) === checksum;
      ring = known ? createRing(ids, { cachedClients: CACHED_CLIENTS, cachedSuccessors: 0 }) : undefined;
    }
    urls = next;
    const addresses = new Set([...nodes, ...urls.values()]);
    for (const set of [proven, failing]) for (const one of set) if (!addresses.has(one)) set.delete(one);
    return true;
  }

  const topology: Topology = {
    *addresses(key) {
      const owner = ring?.owner(key);
      if (owner !== undefined && ring !== undefined) {
        const first = urls.get(owner);
        if (isUp(first)) yield first;
        for (const id of ring.successors(key, ring.members.length)) {
          const next = urls.get(id);
          if (isUp(next)) yield next;
        }
      }
      for (const seed of seeds()) if (!failing.has(seed)) yield seed;
      // Better than nobody.
      for (const address of [...failing]) if (proven.has(address)) yield address;
    },
    ownerOf: (key) => ring?.owner(key),
    learn(address, view) {
      const isNews = takeOver(view);
      // Seen from here, somebody else may live at the address of a member.
      const isItself =
        nodes.includes(address) || view.members.some(({ id, url }) => id === view.self && url === address);
      return (isItself && topology.answers(address)) || isNews;
    },
    answers(address) {
      const isNews = !proven.has(address) || failing.has(address);
      failing.delete(address);
      proven.add(address);
      return isNews;
    },
    fails: (address) => void failing.add(address),
    unproven: () => [...new Set([...nodes, ...urls.values()])].filter((one) => failing.has(one) || !proven.has(one)),
    any() {
      for (const address of seeds()) if (!failing.has(address)) return address;
      for (const address of urls.values()) if (isUp(address)) return address;
      return nodes[turn]!;
    },
  };
  return topology;
}

import { growRing, ringChecksum } from '../../limits/ring/ring.js';
import type { NodeId, Ring } from '../../limits/ring/ring.js';
import { createRing } from './ring.js';
import type { ClusterView } from '../asking/read-answer.js';

/** The addresses of the nodes, and the order in which to ask them about a client. */
export interface Topology {
  /** The addresses to ask about a client, best first: its owner, its successors, then `nodes`. */
  addresses(key: string): Generator<string, void, undefined>;
  /** Returns the address of this member, if it is up and proven. */
  addressOf(id: NodeId | undefined): string | undefined;
  /** Returns the id of the node that owns a client, as far as this client knows. */
  ownerOf(key: string): NodeId | undefined;
  /**
   * Makes the ring of these members in slices, for a `learn` that follows. Calls `pause` between two of them, so that
   * the process can do other work.
   */
  prepare(view: ClusterView, pause: () => Promise<void>): Promise<void>;
  /** Adopts the members as the node at this address sees them. @returns whether something has changed */
  learn(address: string, view: ClusterView): boolean;
  /** Notes that an address answers. @returns whether it did not answer before */
  answers(address: string): boolean;
  /** Notes that an address has failed. It is asked last until it answers. */
  fails(address: string): void;
  /** Tells whether every address that may be asked has failed, and has not answered since. */
  allFail(): boolean;
  /** Tells whether the member that advertises this address has answered there, or `nodes` contains it. */
  isProven(address: string): boolean;
  /** Lists the addresses that are not proven, or fail. */
  unproven(): readonly string[];
  /** Returns an address that is likely to answer, another one each time. */
  any(): string;
}

/** New members of one slice of a ring; each takes about 0.5 ms. */
const SLICE_MEMBERS = 16;

/**
 * Creates a topology. An advertised address counts only once its member has answered there, as from another network it
 * may lead nowhere, or to another server. Until then, questions about that member's clients go to the next node on the
 * ring, or to `nodes`.
 * @param nodes origins that the user gave; they need no proof
 * @param options.pinned whether no other address is used
 */
export function createTopology(nodes: readonly string[], { pinned = false } = {}): Topology {
  const needsTls = nodes.some((node) => node.startsWith('https:'));
  const mayUse = (url: string): boolean => nodes.includes(url) || (!pinned && !(needsTls && url.startsWith('http:')));
  let ring: Ring | undefined;
  /** A ring with most of the members that `learn` gets next. */
  let prepared: Ring | undefined;
  let urls = new Map<NodeId, string>();
  const proven = new Set<string>(nodes);
  const failing = new Set<string>();
  let turn = 0;

  const isUp = (address: string | undefined): address is string =>
    address !== undefined && proven.has(address) && !failing.has(address);

  /** Yields `nodes`, beginning with another one each time. */
  function* seeds(): Generator<string, void, undefined> {
    turn = (turn + 1) % nodes.length;
    for (let i = 0; i < nodes.length; i += 1) yield nodes[(turn + i) % nodes.length]!;
  }

  /** @returns whether the members or their addresses have changed */
  function takeOver({ ringChecksum: checksum, members }: ClusterView): boolean {
    const next = new Map<NodeId, string>();
    for (const { id, url } of members) {
      if (url !== undefined && mayUse(url)) next.set(id, url);
    }
    const ids = members.map(({ id }) => id);
    const isNew = ring?.checksum !== checksum;
    const isSame = !isNew && next.size === urls.size && [...next].every(([id, url]) => urls.get(id) === url);
    if (isSame) return false;
    if (isNew) {
      // If these members give another checksum, the nodes build the ring in another way. Then any node serves.
      const known = ids.length > 0 && ringChecksum(ids) === checksum;
      ring = known ? createRing(ids, prepared ?? ring) : undefined;
      prepared = undefined;
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
      // A failing node is better than none.
      for (const address of [...failing]) if (proven.has(address)) yield address;
    },
    addressOf(id) {
      const address = id === undefined ? undefined : urls.get(id);
      return isUp(address) ? address : undefined;
    },
    ownerOf: (key) => ring?.owner(key),
    async prepare({ ringChecksum: checksum, members }, pause) {
      const ids = members.map(({ id }) => id);
      if (ring?.checksum === checksum || ringChecksum(ids) !== checksum) return;
      prepared = await growRing(ring, ids, { create: createRing, sliceMembers: SLICE_MEMBERS, pause });
    },
    learn(address, view) {
      const isNews = takeOver(view);
      // Seen from here, another node may listen at the address of a member.
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
    allFail: () => [...proven].every((address) => failing.has(address)),
    isProven: (address) => proven.has(address),
    unproven: () => [...new Set([...nodes, ...urls.values()])].filter((one) => failing.has(one) || !proven.has(one)),
    any() {
      for (const address of seeds()) if (!failing.has(address)) return address;
      for (const address of urls.values()) if (isUp(address)) return address;
      return nodes[turn]!;
    },
  };
  return topology;
}

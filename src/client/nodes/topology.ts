import { md5 } from '../../limits/ring/md5.js';
import { inTurns } from '../../lib/turns.js';
import type { Timers } from '../../lib/system.js';
import { growing, makeRing, POINTS, ringChecksum, type NodeId, type Ring } from '../../limits/ring/ring.js';
import type { ClusterView } from './answers.js';

/** New members of one step towards a ring; each takes about 0.5 ms. */
const STEP_MEMBERS = 16;
const WORDS_PER_DIGEST = 4;

/**
 * The addresses of the nodes, and the order in which to ask them about a client.
 *
 * An advertised address counts only once its member has answered there, as from another network it may lead nowhere, or
 * to another server. Until then, questions about that member's clients go to the next node on the ring, or to `nodes`.
 */
export class Topology {
  private readonly needsTls: boolean;
  private ring: Ring | undefined;
  /** A ring with most of the members that `learn` gets next. */
  private prepared: Ring | undefined;
  private urls = new Map<NodeId, string>();
  private readonly proven: Set<string>;
  private readonly failing = new Set<string>();
  private turn = 0;

  /**
   * @param nodes origins that the user gave; they need no proof
   * @param pinned whether no other address is used
   */
  constructor(
    private readonly nodes: readonly string[],
    private readonly pinned: boolean,
  ) {
    this.needsTls = nodes.some((node) => node.startsWith('https:'));
    this.proven = new Set(nodes);
  }

  /** Yields the addresses to ask about a client, best first: its owner, its successors, then `nodes`. */
  *addresses(key: string): Generator<string, void, undefined> {
    const { ring, urls, proven, failing } = this;
    const owner = this.addressOf(ring?.owner(key));
    if (owner !== undefined) yield owner;
    for (const id of ring?.successors(key, ring.members.length) ?? []) {
      const address = urls.get(id);
      if (this.isUp(address)) yield address;
    }
    for (const seed of this.seeds()) if (!failing.has(seed)) yield seed;
    // A failing node is better than none.
    for (const address of [...failing]) if (proven.has(address)) yield address;
  }

  /** Returns the address of this member, if it is up and proven. */
  addressOf(id: NodeId | undefined): string | undefined {
    const address = id === undefined ? undefined : this.urls.get(id);
    return this.isUp(address) ? address : undefined;
  }

  /** Returns the id of the node that owns a client, as far as this client knows. */
  ownerOf(key: string): NodeId | undefined {
    return this.ring?.owner(key);
  }

  /** Makes the ring of these members in turns, with other work in between, for a `learn` that follows. */
  async prepare({ ringChecksum: checksum, members }: ClusterView, timers: Pick<Timers, 'soon'>): Promise<void> {
    const ids = members.map(({ id }) => id);
    if (this.ring?.checksum === checksum || ringChecksum(ids) !== checksum) return;
    this.prepared = await inTurns(growing(this.ring, ids, createRing, STEP_MEMBERS), timers);
  }

  /** Adopts the members as the node at this address sees them. @returns whether something has changed */
  learn(address: string, view: ClusterView): boolean {
    const isNews = this.takeOver(view);
    // Seen from here, another node may listen at the address of a member.
    const isItself =
      this.nodes.includes(address) || view.members.some(({ id, url }) => id === view.self && url === address);
    return (isItself && this.answers(address)) || isNews;
  }

  /** Notes that an address answers. @returns whether it did not answer before */
  answers(address: string): boolean {
    const isNews = !this.proven.has(address) || this.failing.has(address);
    this.failing.delete(address);
    this.proven.add(address);
    return isNews;
  }

  /** Notes that an address has failed. It is asked last until it answers. */
  fails(address: string): void {
    this.failing.add(address);
  }

  /** Tells whether every address that may be asked has failed, and has not answered since. */
  allFail(): boolean {
    return [...this.proven].every((address) => this.failing.has(address));
  }

  /** Tells whether the member that advertises this address has answered there, or `nodes` contains it. */
  isProven(address: string): boolean {
    return this.proven.has(address);
  }

  /** Lists the addresses that are not proven, or fail. */
  unproven(): readonly string[] {
    return [...this.known()].filter((address) => this.failing.has(address) || !this.proven.has(address));
  }

  /** Returns an address that is likely to answer, another one each time. */
  any(): string {
    for (const address of this.seeds()) if (!this.failing.has(address)) return address;
    for (const address of this.urls.values()) if (this.isUp(address)) return address;
    return this.nodes[this.turn]!;
  }

  private isUp(address: string | undefined): address is string {
    return address !== undefined && this.proven.has(address) && !this.failing.has(address);
  }

  private known(): Set<string> {
    return new Set([...this.nodes, ...this.urls.values()]);
  }

  /** Yields `nodes`, beginning with another one each time. */
  private *seeds(): Generator<string, void, undefined> {
    const { nodes } = this;
    const first = (this.turn + 1) % nodes.length;
    this.turn = first;
    for (let i = 0; i < nodes.length; i += 1) yield nodes[(first + i) % nodes.length]!;
  }

  private mayUse(url: string): boolean {
    return this.nodes.includes(url) || (!this.pinned && !(this.needsTls && url.startsWith('http:')));
  }

  /** @returns whether the members or their addresses have changed */
  private takeOver({ ringChecksum: checksum, members }: ClusterView): boolean {
    const next = new Map<NodeId, string>();
    for (const { id, url } of members) if (url !== undefined && this.mayUse(url)) next.set(id, url);
    const isNew = this.ring?.checksum !== checksum;
    const isSame = next.size === this.urls.size && [...next].every(([id, url]) => this.urls.get(id) === url);
    if (!isNew && isSame) return false;
    if (isNew) {
      const ids = members.map(({ id }) => id);
      // If these members give another checksum, the nodes build the ring in another way. Then any node serves.
      const isKnown = ids.length > 0 && ringChecksum(ids) === checksum;
      this.ring = isKnown ? createRing(ids, this.prepared ?? this.ring) : undefined;
      this.prepared = undefined;
    }
    this.urls = next;
    const known = this.known();
    for (const set of [this.proven, this.failing]) for (const one of set) if (!known.has(one)) set.delete(one);
    return true;
  }
}

/** Makes the same ring as the nodes do. Takes about 0.5 ms for each member that is not in `from`. */
export function createRing(memberIds: Iterable<NodeId>, from?: Ring): Ring {
  return makeRing(memberIds, from, memberPoints);
}

function memberPoints(member: NodeId): Uint32Array {
  const points = new Uint32Array(POINTS);
  for (let at = 0; at < POINTS; at += WORDS_PER_DIGEST)
    md5(`${member}-${at / WORDS_PER_DIGEST}`, points.subarray(at, at + WORDS_PER_DIGEST));
  return points.sort();
}

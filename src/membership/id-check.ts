import { TokenringError } from '../lib/error.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from './membership.js';
import type { PeerRpc } from './peer-rpc.js';
import type { MemberRecord } from '../protocol/messages.js';
import type { Discovery } from './discovery.js';
import type { Log, Timers } from '../lib/system.js';

/** Beats after which the last messages of a process that has ended are there, and in which a living one beats. */
const SETTLE_BEATS = 2;
const ALIVE_BEATS = 5;

/** Finds two processes with the same node id. The later one does not start; each that hears of the other logs it once. */
export class IdCheck {
  private isAsking = false;
  private hasArrived = false;
  private logged = false;

  constructor(
    private readonly parts: {
      readonly log: Log;
      readonly timers: Timers;
      readonly membership: Membership;
      readonly discovery: Discovery;
      readonly peerRpc: PeerRpc;
      /** Of each message. No answer counts as none, as an address may be unreachable from its own node. */
      readonly timeoutMs: number;
      readonly beatMs: number;
    },
  ) {}

  /**
   * Sends a message to this node's own address, which must arrive here. The address of both may lead here. So a member
   * of this id that beats without this node is another process too.
   * @throws TokenringError `duplicate_id` if there is another process
   */
  async run(): Promise<void> {
    const { timers, membership, peerRpc, timeoutMs, beatMs } = this.parts;
    this.isAsking = true;
    const asked = await peerRpc.ask(membership.self().id, { kind: 'heartbeat', members: [] }, timeoutMs);
    this.isAsking = false;
    if (asked.kind === 'answer' && !this.hasArrived) this.refuse('another node answers at this address');
    if ((await this.heardElsewhere()) === undefined) return;
    await timers.sleep(SETTLE_BEATS * beatMs);
    const before = await this.heardElsewhere();
    await timers.sleep(ALIVE_BEATS * beatMs);
    const after = await this.heardElsewhere();
    if (before === undefined || after === undefined) return;
    const { record, by } = after;
    if (record.incarnation === before.record.incarnation && record.beat <= before.record.beat) return;
    // The other process cannot be reached at its address, which leads here. Its neighbours can tell it.
    await peerRpc.tellOfDuplicate(record, by, timeoutMs);
    this.refuse('another node of this id is in the ring');
  }

  /** Takes a message that came under this node's own id, or the word of another node that there is such a process. */
  received(): void {
    if (this.isAsking) this.hasArrived = true;
    else if (!this.logged) {
      this.logged = true;
      const { id } = this.parts.membership.self();
      this.parts.log.warn({ id }, 'another node uses the id of this one; give each its own address');
    }
  }

  private refuse(how: string): never {
    const { id } = this.parts.membership.self();
    this.parts.log.warn({ id }, 'another node has the id of this one, which does not start');
    const advice = 'set TOKENRING_ADVERTISE to an address of this node alone';
    throw new TokenringError('duplicate_id', { detail: `the id ${id} is in use: ${how}; ${advice}` });
  }

  /** The latest record that other nodes have of a member of this id that is in the ring, and those nodes. */
  private async heardElsewhere(): Promise<{ record: MemberRecord; by: readonly NodeId[] } | undefined> {
    const { id } = this.parts.membership.self();
    const seeds = (await this.parts.discovery.seeds()).filter((seed) => seed !== id);
    const lists = await Promise.all(seeds.map((seed) => this.parts.peerRpc.recordsAt(seed, this.parts.timeoutMs)));
    const records = lists.flat();
    const found = records.filter((record) => record.id === id && record.state === 'active');
    const [record] = found.sort((a, b) => b.incarnation - a.incarnation || b.beat - a.beat);
    if (record === undefined) return undefined;
    const others = records.filter((other) => other.state === 'active' && other.id !== id);
    return { record, by: [...new Set(others.map((other) => other.id))] };
  }
}

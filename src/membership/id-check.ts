import { TokenringError } from '../lib/error.js';
import type { NodeId } from '../limits/ring/ring.js';
import type { Membership } from './membership.js';
import type { PeerRpc } from './peer-rpc.js';
import type { MemberRecord } from '../protocol/messages.js';
import type { Discovery } from './discovery.js';
import type { Log } from '../lib/log.js';
import type { Timers } from '../lib/clock.js';

/** Beats after which the last messages of a process that has ended are there, and in which a living one beats. */
const SETTLE_BEATS = 2;
const ALIVE_BEATS = 5;

/** Finds two processes with the same node id. The later one does not start; each that hears of the other logs it once. */
interface IdCheck {
  /**
   * Sends a message to this node's own address, which must arrive here. The address of both may lead here. So a member
   * of this id that beats without this node is another process too.
   * @throws TokenringError `duplicate_id` if there is another process
   */
  readonly run: () => Promise<void>;
  /** Takes a message that came under this node's own id, or the word of another node that there is such a process. */
  readonly received: () => void;
}

interface IdCheckDeps {
  readonly log: Log;
  readonly timers: Timers;
  readonly membership: Membership;
  readonly discovery: Discovery;
  readonly peerRpc: Pick<PeerRpc, 'ask' | 'recordsAt' | 'tellRival'>;
}

/**
 * @param options.timeoutMs of each message; no answer counts as none, as an address may be unreachable from its own node
 */
export function createIdCheck(
  { log, timers, membership, discovery, peerRpc }: IdCheckDeps,
  { timeoutMs, beatMs }: { timeoutMs: number; beatMs: number },
): IdCheck {
  let isAsking = false;
  let hasArrived = false;
  let logged = false;

  function refuse(how: string): never {
    const { id } = membership.self();
    log.warn({ id }, 'another node has the id of this one, which does not start');
    const advice = 'set TOKENRING_ADVERTISE to an address of this node alone';
    throw new TokenringError('duplicate_id', { detail: `the id ${id} is in use: ${how}; ${advice}` });
  }

  /** The latest record that other nodes have of a member of this id that is in the ring, and those nodes. */
  async function heardElsewhere(): Promise<{ record: MemberRecord; by: readonly NodeId[] } | undefined> {
    const { id } = membership.self();
    const seeds = (await discovery.seeds()).filter((seed) => seed !== id);
    const lists = await Promise.all(seeds.map((seed) => peerRpc.recordsAt(seed, timeoutMs)));
    const records = lists.flat();
    const found = records.filter((record) => record.id === id && record.state === 'active');
    const [record] = found.sort((a, b) => b.incarnation - a.incarnation || b.beat - a.beat);
    if (record === undefined) return undefined;
    const others = records.filter((other) => other.state === 'active' && other.id !== id);
    return { record, by: [...new Set(others.map((other) => other.id))] };
  }

  return {
    async run() {
      isAsking = true;
      const asked = await peerRpc.ask(membership.self().id, { kind: 'heartbeat', members: [] }, timeoutMs);
      isAsking = false;
      if (asked.kind === 'answer' && !hasArrived) refuse('another node answers at this address');
      if ((await heardElsewhere()) === undefined) return;
      await timers.sleep(SETTLE_BEATS * beatMs);
      const before = await heardElsewhere();
      await timers.sleep(ALIVE_BEATS * beatMs);
      const after = await heardElsewhere();
      if (before === undefined || after === undefined) return;
      const { record, by } = after;
      if (record.incarnation === before.record.incarnation && record.beat <= before.record.beat) return;
      // The other process cannot be reached at its address, which leads here. Its neighbours can tell it.
      await peerRpc.tellRival(record, by, timeoutMs);
      refuse('another node of this id is in the ring');
    },
    received() {
      if (isAsking) hasArrived = true;
      else if (!logged) {
        logged = true;
        log.warn({ id: membership.self().id }, 'another node uses the id of this one; give each its own address');
      }
    },
  };
}

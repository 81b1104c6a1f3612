import { TokenringError } from '../core/error.js';
import type { Membership } from './membership/membership.js';
import type { Ask, Log } from './ports.js';

/** Finds two processes with the same node id. The later one does not start; each logs it once. */
interface IdCheck {
  /**
   * Sends a message to this node's own address, which must arrive here.
   * @throws TokenringError `duplicate_id` if another process answers
   */
  readonly run: () => Promise<void>;
  /** Takes a message that came under this node's own id. */
  readonly received: () => void;
}

/**
 * @param options.timeoutMs of the message; no answer counts as none, as an address may be unreachable from its own node
 */
export function createIdCheck(
  { log, membership, ask }: { log: Log; membership: Membership; ask: Ask },
  { timeoutMs }: { timeoutMs: number },
): IdCheck {
  let isAsking = false;
  let hasArrived = false;
  let logged = false;

  return {
    async run() {
      const { id } = membership.self;
      isAsking = true;
      const asked = await ask(id, { kind: 'heartbeat', members: [] }, timeoutMs);
      isAsking = false;
      if (asked.kind !== 'answer' || hasArrived) return;
      log.warn({ id }, 'another node has the id of this one, which does not start');
      const advice = 'set TOKENRING_ADVERTISE to an address of this node alone';
      const detail = `the id ${id} is in use: another node answers at this address; ${advice}`;
      throw new TokenringError('duplicate_id', { detail });
    },
    received() {
      if (isAsking) hasArrived = true;
      else if (!logged) {
        logged = true;
        log.warn({ id: membership.self.id }, 'another node uses the id of this one; give each its own address');
      }
    },
  };
}

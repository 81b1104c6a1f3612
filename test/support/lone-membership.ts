import { GossipMembership } from '../../src/membership/gossip-membership.js';
import type { Clock } from '../../src/lib/system.js';

/** The membership of `a:1`, which knows no other member and has not joined yet. */
export function loneMembership(clock: Clock): GossipMembership {
  return new GossipMembership(clock, {
    self: 'a:1',
    version: '0',
    suspectAfterMs: 1_000,
    onRingChange: () => undefined,
    onConcurrentLeave: () => undefined,
  });
}

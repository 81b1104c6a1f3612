import type { PeerMessage } from '../cluster/messages.js';
import type { PeerResult } from '../cluster/ports.js';
import { REFUSALS } from './refusal.js';
import type { RefusalCode } from './refusal.js';

/** Every kind, once: the type asks for all of them. */
const KINDS: Readonly<Record<PeerMessage['kind'], true>> = {
  decide: true,
  heartbeat: true,
  lease: true,
  replicate: true,
  handoff: true,
  admit: true,
  paused: true,
  describe: true,
  forget: true,
  settle: true,
  load: true,
  factors: true,
  policies: true,
  'write-policies': true,
};
const MESSAGE_KINDS = Object.keys(KINDS) as readonly PeerMessage['kind'][];
const RESULT_KINDS = ['answer', 'refused', 'broken', 'timeout'] as const;

/** A message's, or a whole connection's: its TLS handshake failed, or it was one too many. */
export type RefusalReason = RefusalCode | 'tls' | 'too_many_connections';

type Kind = PeerMessage['kind'];

/** What goes over the peer connections, as plain numbers that the metrics read when they are asked. */
export interface PeerCounters {
  /** Messages that this node sent, by kind; one that had to be signed anew counts once. */
  readonly sent: Record<Kind, number>;
  /** Messages that it took from others, by kind. */
  readonly received: Record<Kind, number>;
  /** How its own messages ended. */
  readonly results: Record<PeerResult['kind'], number>;
  /** What its listener refused, by reason. */
  readonly refused: Record<RefusalReason, number>;
}

export function createPeerCounters(): PeerCounters {
  const refusals = Object.keys(REFUSALS) as RefusalCode[];
  return {
    sent: zeros<Kind>(MESSAGE_KINDS),
    received: zeros<Kind>(MESSAGE_KINDS),
    results: zeros<PeerResult['kind']>(RESULT_KINDS),
    refused: zeros<RefusalReason>([...refusals, 'tls', 'too_many_connections']),
  };
}

function zeros<K extends string>(keys: readonly K[]): Record<K, number> {
  return Object.fromEntries(keys.map((key) => [key, 0])) as Record<K, number>;
}

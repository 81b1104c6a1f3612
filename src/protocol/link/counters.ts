import type { PeerMessage, PeerResult } from '../messages.js';
import { REFUSALS, type RefusalCode } from './refusal.js';

/** Every kind once. The type requires all of them. */
const KINDS: Readonly<Record<PeerMessage['kind'], true>> = {
  decide: true,
  heartbeat: true,
  lease: true,
  replicate: true,
  handoff: true,
  enter: true,
  paused: true,
  describe: true,
  forget: true,
  settle: true,
  top: true,
  report: true,
  use: true,
  load: true,
  factors: true,
  policies: true,
  'fetch-policies': true,
  'policy-part': true,
  'write-policies': true,
};
const MESSAGE_KINDS = Object.keys(KINDS) as readonly PeerMessage['kind'][];
const RESULT_KINDS = ['answer', 'refused', 'broken', 'timeout'] as const;

/** The reason why a message or a connection is refused. `tls` means that its TLS handshake failed. */
export type RefusalReason = RefusalCode | 'tls';

type Kind = PeerMessage['kind'];

/** Counts of the traffic between peers, as plain numbers that the metrics read. */
export class PeerCounters {
  /** Messages that this node sent, by kind. */
  readonly sent = zeros<Kind>(MESSAGE_KINDS);
  /** Messages that this node received, by kind. */
  readonly received = zeros<Kind>(MESSAGE_KINDS);
  /** Messages that this node sent, by result. */
  readonly results = zeros<PeerResult['kind']>(RESULT_KINDS);
  /** Messages and connections that its listener refused, by reason. */
  readonly refused = zeros<RefusalReason>([...(Object.keys(REFUSALS) as RefusalCode[]), 'tls']);
}

function zeros<K extends string>(keys: readonly K[]): Record<K, number> {
  return Object.fromEntries(keys.map((key) => [key, 0])) as Record<K, number>;
}

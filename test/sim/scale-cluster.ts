import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { encodeAnswer, encodeMessage } from '../support/wire.js';
import type { MemberRecord, PeerMessage } from '../../src/protocol/messages.js';
import type { ClusterNode } from '../../src/node/node.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { createWorld, type SpawnOptions, type World } from './world.js';

export const SUSPECT_AFTER_MS = 1_000;
/** Ten in a suspicion time. */
export const BEAT_MS = SUSPECT_AFTER_MS / 10;
/** Each message, one way. */
export const DELAY_MS = 1;
/** So long a window that nobody comes to rest meanwhile. */
const RULE = ruleOf('token-bucket', 1_000, 3_600_000, 1_000, undefined);
const VERSION = '0.1.0';
/** Heartbeats of which the bytes are counted. */
const WEIGHED = 10_000;

/** What was sent since the last look. */
export interface Traffic {
  readonly messages: ReadonlyMap<PeerMessage['kind'], number>;
  /** Of a heartbeat and its answer, without what HTTP adds: the mean of the first. */
  readonly heartbeatBytes: number;
}

/** Members that knew each other before they began, so that no more than what is measured is simulated. */
export interface ScaleCluster {
  readonly world: World;
  readonly ids: readonly NodeId[];
  /** What was sent since it was last asked. */
  readonly traffic: () => Traffic;
  /** Asks for one token, at a node or at the owner. */
  readonly ask: (clientId: string, at?: NodeId) => void;
  /** Starts one more, which joins as any does. @returns the ms until it decides */
  readonly join: () => Promise<number>;
}

export async function createScaleCluster(seed: number, nodes: number, maxClients: number): Promise<ScaleCluster> {
  const sent = new Map<PeerMessage['kind'], number>();
  let heartbeatBytes = 0;
  const weighs = (): boolean => sent.get('heartbeat')! <= WEIGHED;
  const world = createWorld(seed, {
    tamper: {
      message(_from, _to, message) {
        const { kind } = message.body;
        sent.set(kind, (sent.get(kind) ?? 0) + 1);
        if (kind === 'heartbeat' && weighs()) heartbeatBytes += encodeMessage(message).length;
        return message;
      },
      answer(_from, _to, answer, asked) {
        if (asked.body.kind === 'heartbeat' && weighs()) heartbeatBytes += encodeAnswer(answer).length;
        return answer;
      },
    },
  });
  world.setLink(() => DELAY_MS);
  const options: SpawnOptions = { version: VERSION, maxClients, suspectAfterMs: SUSPECT_AFTER_MS };
  const ids = Array.from({ length: nodes }, (_, i) => idOf(i));
  for (const id of ids) {
    world.spawn(id, options);
    // As in life, they do not beat at the same moment: then each pair would exchange two heartbeats a beat.
    await world.run(BEAT_MS / nodes);
  }
  await introduce(ids.map((id) => world.node(id).cluster));
  const ring = world.node(ids[0]!).cluster.membership.ring();

  return {
    world,
    ids,
    traffic() {
      const weighed = Math.min(WEIGHED, sent.get('heartbeat') ?? 0);
      const traffic = { messages: new Map(sent), heartbeatBytes: heartbeatBytes / weighed };
      sent.clear();
      heartbeatBytes = 0;
      return traffic;
    },
    ask(clientId, at = ring.owner(clientId)!) {
      const check = createCheck(clientKey(clientId), [RULE]);
      world.deliver(at, ({ cluster }) => void decideAlone(cluster.checkRouter, check));
    },
    async join() {
      const fromMs = world.nowMs;
      const seeds = ids.slice(0, 3);
      await world.until(world.spawn(idOf(nodes), { ...options, seeds }).cluster.start(), 60_000);
      return world.nowMs - fromMs;
    },
  };
}

/** As if all had joined, and each had just heard from each. */
async function introduce(nodes: readonly ClusterNode[]): Promise<void> {
  for (const { membership } of nodes) membership.declare('active');
  const records = nodes.map(({ membership }): MemberRecord => membership.self());
  for (const { membership } of nodes) membership.learn(records);
  for (const node of nodes) {
    const self = node.membership.self();
    const view = node.membership.view();
    const policies = node.activePolicies.document().digest;
    for (const from of records)
      if (from.id !== self.id)
        await node.receive({ sender: { from, view, policies }, body: { kind: 'heartbeat', members: [] } });
  }
}

/** Of private addresses, as a cluster has them: the ring's balance depends on the names. */
export function idOf(i: number): NodeId {
  return `10.0.${i >> 8}.${i & 255}:9080`;
}

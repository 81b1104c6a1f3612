import type { Snapshot } from '../../src/limits/bucket/snapshot.js';
import type { ClientSnapshot } from '../../src/state/client.js';
import type { MemberRecord } from '../../src/protocol/messages.js';
import { decodeClients, encodeClients } from '../../src/state/client-format.js';
import { NO_CLIENTS } from '../support/wire.js';
import type { Tamper } from './network.js';

/** A step of a sliding window counts at least 1, and lasts as long as before. */
function halfOf({ algorithm }: Snapshot, value: number, i: number): number {
  if (algorithm === 'token-bucket') return Math.floor(value / 2);
  return i % 2 === 0 ? value : Math.ceil(value / 2);
}

/** Copies are acknowledged, and empty. */
export function sendsEmptyCopies(): Tamper {
  return {
    message: (_from, _to, sent) =>
      sent.body.kind === 'replicate' ? { ...sent, body: { kind: 'replicate', clients: NO_CLIENTS } } : sent,
  };
}

export function halvesCopies(): Tamper {
  const halved = ([clientId, buckets, ...rest]: ClientSnapshot): ClientSnapshot => [
    clientId,
    buckets.map((bucket) => ({ ...bucket, state: bucket.state.map((value, i) => halfOf(bucket, value, i)) })),
    ...rest,
  ];
  return {
    message: (_from, _to, sent) =>
      sent.body.kind === 'replicate'
        ? { ...sent, body: { kind: 'replicate', clients: encodeClients(decodeClients(sent.body.clients).map(halved)) } }
        : sent,
  };
}

export function dropsLastChunk(): Tamper {
  return {
    answer: (_from, _to, answer, { body: asked }) =>
      asked.kind === 'handoff' && answer.body.kind === 'handed' && !answer.body.more
        ? { ...answer, body: { ...answer.body, clients: NO_CLIENTS } }
        : answer,
  };
}

/** What changed between a handoff and the admission. */
export function dropsUnsent(): Tamper {
  return {
    answer: (_from, _to, answer, { body: asked }) =>
      asked.kind === 'enter' && answer.body.kind === 'handed'
        ? { ...answer, body: { ...answer.body, clients: NO_CLIENTS } }
        : answer,
  };
}

export function namesResendsAnew(): Tamper {
  const seen = new Map<string, number>();
  return {
    message(_from, _to, sent) {
      if (sent.body.kind !== 'decide') return sent;
      const times = seen.get(sent.body.messageId) ?? 0;
      seen.set(sent.body.messageId, times + 1);
      return times === 0
        ? sent
        : { ...sent, body: { ...sent.body, messageId: `${sent.body.messageId} again ${times}` } };
    },
  };
}

export function forgetsRequestIds(): Tamper {
  return {
    message: (_from, _to, sent) =>
      sent.body.kind === 'decide'
        ? {
            ...sent,
            body: { ...sent.body, checks: sent.body.checks.map((check) => ({ ...check, requestId: undefined })) },
          }
        : sent,
  };
}

export function saysLeaversAreActive(): Tamper {
  const lie = (record: MemberRecord): MemberRecord =>
    record.state === 'leaving' || record.state === 'left' ? { ...record, state: 'active' } : record;
  return {
    message: (_from, _to, { sender, body }) => ({
      sender: { ...sender, from: lie(sender.from) },
      body: body.kind === 'heartbeat' ? { ...body, members: body.members.map(lie) } : body,
    }),
    answer: (_from, _to, { sender, body }) => ({
      sender: { ...sender, from: lie(sender.from) },
      body: 'members' in body ? { ...body, members: body.members.map(lie) } : body,
    }),
  };
}

/** Copies know nothing of tokens that are lent. */
export function hidesLeases(): Tamper {
  const hidden = ([clientId, buckets, ...rest]: ClientSnapshot): ClientSnapshot => [
    clientId,
    buckets.map((bucket) => ({ ...bucket, leases: [] })),
    ...rest,
  ];
  return {
    message: (_from, _to, sent) =>
      sent.body.kind === 'replicate'
        ? { ...sent, body: { kind: 'replicate', clients: encodeClients(decodeClients(sent.body.clients).map(hidden)) } }
        : sent,
  };
}

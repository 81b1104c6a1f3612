import type { Change } from '../registry.js';
import { decodePolicies } from './etcd-policies.js';
import { decodeEntry, idOf } from './etcd-wire.js';
import type { KeyValue, Keys } from './etcd-wire.js';

export interface WatchEvent {
  readonly type?: string;
  readonly kv: KeyValue;
}

/** Groups the events of one answer by revision, in order. */
export function changesByRevision(
  events: readonly WatchEvent[],
  { members, policies }: Keys,
): ReadonlyMap<number, readonly Change[]> {
  const byRevision = new Map<number, Change[]>();
  const prefix = Buffer.from(members, 'base64');
  for (const { type, kv } of events) {
    const revision = Number(kv.mod_revision ?? 0);
    const changes = byRevision.get(revision) ?? [];
    byRevision.set(revision, changes);
    if (kv.key === policies) {
      changes.push({ kind: 'policies', stored: decodePolicies(type === 'DELETE' ? undefined : kv) });
      continue;
    }
    // Other programs may have keys between those of members and policies.
    if (Buffer.from(kv.key, 'base64').indexOf(prefix) !== 0) continue;
    const entry = type === 'DELETE' ? undefined : decodeEntry(kv);
    const id = idOf(kv);
    if (entry !== undefined) changes.push({ kind: 'is', entry });
    else if (id !== undefined) changes.push({ kind: 'gone', id });
  }
  return byRevision;
}

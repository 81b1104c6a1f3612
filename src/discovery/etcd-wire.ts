import type { Change, Entry } from '../cluster/registry.js';
import { isOrigin } from '../core/origin.js';
import type { NodeId } from '../core/ring.js';

/** Keys of etcd: `PREFIXmembers/ID` for each member, and `PREFIXregistry` with the name of it all. */
export interface Keys {
  readonly members: string;
  /** The first key behind all of them. */
  readonly membersEnd: string;
  readonly registry: string;
  member(id: NodeId): string;
}

export function keysOf(prefix: string): Keys {
  const members = `${prefix}members/`;
  // '0' follows '/'.
  const membersEnd = `${prefix}members0`;
  return {
    members: base64(members),
    membersEnd: base64(membersEnd),
    registry: base64(`${prefix}registry`),
    member: (id) => base64(members + id),
  };
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** A key and its value, as etcd's JSON has them: bytes in base64, whole numbers as text, nothing where it is empty. */
export interface KeyValue {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision?: string;
}

const STATES: readonly Entry['state'][] = ['joining', 'active', 'leaving'];
const NODE_ID = /^(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\]):[1-9]\d{0,4}$/;

export function encodeEntry({ incarnation, state, version, url }: Entry): string {
  return base64(JSON.stringify({ incarnation, state, version, url }));
}

/** @returns `undefined` for what no node has written: others may write there, too, and this node connects to what it reads */
export function decodeEntry(kv: KeyValue): Entry | undefined {
  const id = idOf(kv);
  if (id === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(kv.value ?? '', 'base64').toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { incarnation, state, version, url = '' } = value as Record<string, unknown>;
  const known = STATES.find((one) => one === state);
  if (known === undefined || typeof version !== 'string' || version.length > 100) return undefined;
  if (typeof url !== 'string' || (url !== '' && !isOrigin(url))) return undefined;
  if (!Number.isSafeInteger(incarnation) || (incarnation as number) < 1) return undefined;
  return { id, incarnation: incarnation as number, state: known, version, url };
}

function idOf({ key }: KeyValue): NodeId | undefined {
  const text = Buffer.from(key, 'base64').toString('utf8');
  const id = text.slice(text.lastIndexOf('/') + 1);
  return NODE_ID.test(id) ? id : undefined;
}

export interface WatchEvent {
  readonly type?: string;
  readonly kv: KeyValue;
}

/** The events of one answer by their revisions, in order. */
export function changesByRevision(events: readonly WatchEvent[]): ReadonlyMap<number, readonly Change[]> {
  const byRevision = new Map<number, Change[]>();
  for (const { type, kv } of events) {
    const revision = Number(kv.mod_revision ?? 0);
    const changes = byRevision.get(revision) ?? [];
    byRevision.set(revision, changes);
    const entry = type === 'DELETE' ? undefined : decodeEntry(kv);
    const id = idOf(kv);
    if (entry !== undefined) changes.push({ kind: 'is', entry });
    else if (id !== undefined) changes.push({ kind: 'gone', id });
  }
  return byRevision;
}

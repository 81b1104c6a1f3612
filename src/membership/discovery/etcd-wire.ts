import type { Registration } from '../registry.js';
import { isOrigin } from '../../limits/origin.js';
import type { NodeId } from '../../limits/ring/ring.js';

/**
 * Keys of etcd, in base64: `PREFIXmembers/ID` for each member, `PREFIXpolicies`, and `PREFIXregistry` with the
 * registry's name.
 */
export interface Keys {
  readonly members: string;
  /** The first key after all members. */
  readonly membersEnd: string;
  readonly policies: string;
  /** The first key after `policies`. All keys that may change are between `members` and this one. */
  readonly policiesEnd: string;
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
    policies: base64(`${prefix}policies`),
    policiesEnd: base64(`${prefix}policies\0`),
    registry: base64(`${prefix}registry`),
    member: (id) => base64(members + id),
  };
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** A key and its value in etcd's JSON: bytes in base64, integers as text, empty values left out. */
export interface KeyValue {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision?: string;
}

const STATES: readonly Registration['state'][] = ['joining', 'active', 'leaving'];
const NODE_ID = /^(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\]):[1-9]\d{0,4}$/;

export function encodeEntry({ incarnation, state, version, url }: Registration): string {
  return base64(JSON.stringify({ incarnation, state, version, url }));
}

/**
 * @returns `undefined` for an entry that no node has written. Other programs may write there, and this node connects to
 * the addresses that it reads.
 */
export function decodeEntry(kv: KeyValue): Registration | undefined {
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

/** @returns `undefined` if the key is not that of a member */
export function idOf({ key }: KeyValue): NodeId | undefined {
  const text = Buffer.from(key, 'base64').toString('utf8');
  const id = text.slice(text.lastIndexOf('/') + 1);
  return NODE_ID.test(id) ? id : undefined;
}

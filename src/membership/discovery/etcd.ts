import { randomUUID } from 'node:crypto';
import type {
  Change,
  Failed,
  StoredPolicies,
  PolicyWriteResult,
  Granted,
  Registration,
  Registry,
  Renewed,
  WriteResult,
} from '../registry.js';
import { EtcdClient, type EtcdClientOptions } from './etcd-client.js';
import {
  EtcdError,
  isUndone,
  NOT_FOUND,
  base64,
  decodeEntry,
  encodeEntry,
  idOf,
  keysOf,
  type Keys,
  type KeyValue,
} from './etcd-wire.js';
import { decodePolicies, encodeDocument, MAX_DOCUMENT_BYTES } from './etcd-policies.js';

export interface EtcdRegistryOptions extends EtcdClientOptions {
  /** Prefix of all keys. */
  readonly prefix: string;
}

/** Etcd's error for a request that is too large. Etcd's bound may be lower than the bound of this program. */
const TOO_LARGE = /request is too large/;

interface Header {
  readonly revision?: string;
}

interface TxnAnswer {
  readonly header: Header;
  readonly succeeded?: boolean;
  readonly responses?: readonly { readonly response_range?: { readonly kvs?: readonly KeyValue[] } }[];
}

interface WatchEvent {
  readonly type?: string;
  readonly kv: KeyValue;
}

interface WatchAnswer {
  readonly result?: {
    readonly canceled?: boolean;
    readonly compact_revision?: string;
    readonly events?: readonly WatchEvent[];
  };
}

/**
 * Stores members as keys of etcd under leases, and the policies as one more key. Uses etcd's JSON gateway, which is on
 * by default, so that undici is the only dependency.
 */
export class EtcdRegistry implements Registry {
  private readonly client: EtcdClient;
  private readonly keys: Keys;
  /** The last result of `read`. It begins with an empty name, which no registry has. */
  private lastRead: { registry: string; revision: number; stored: StoredPolicies } = {
    registry: '',
    revision: 0,
    stored: decodePolicies(undefined),
  };

  constructor(options: EtcdRegistryOptions) {
    this.client = new EtcdClient(options);
    this.keys = keysOf(options.prefix);
  }

  read(timeoutMs: number): ReturnType<Registry['read']> {
    return this.attempt(() => this.readOnce(timeoutMs));
  }

  grant(ttlMs: number, timeoutMs: number): Promise<Granted> {
    return this.attempt(async (): Promise<Granted> => {
      const answer = await this.client.call('/v3/lease/grant', { TTL: String(Math.ceil(ttlMs / 1_000)) }, timeoutMs);
      const { ID, TTL } = answer as { ID: string; TTL: string };
      return { kind: 'granted', leaseId: ID, ttlMs: Number(TTL) * 1_000 };
    });
  }

  renew(leaseId: string, timeoutMs: number): Promise<Renewed> {
    return this.attempt(async (): Promise<Renewed> => {
      const answer = await this.client.call('/v3/lease/keepalive', { ID: leaseId }, timeoutMs);
      const { result } = answer as { result: { header: Header; TTL?: string } };
      // Etcd answers no TTL, or 0, when the lease has ended.
      const ttlMs = Number(result.TTL ?? 0) * 1_000;
      if (!(ttlMs > 0)) return { kind: 'ended' };
      return { kind: 'renewed', ttlMs, revision: Number(result.header.revision) };
    });
  }

  write(
    leaseId: string,
    entry: Registration,
    { ownLaterThan, anyLaterThan }: Parameters<Registry['write']>[2],
    timeoutMs: number,
  ): Promise<WriteResult> {
    return this.attempt(async (): Promise<WriteResult> => {
      const key = this.keys.member(entry.id);
      const none = { target: 'MOD', result: 'LESS' };
      const compare = [{ ...none, key, mod_revision: String(ownLaterThan + 1) }];
      if (anyLaterThan !== undefined) {
        const all = { key: this.keys.members, range_end: this.keys.membersEnd };
        compare.push({ ...none, ...all, mod_revision: String(anyLaterThan + 1) });
      }
      const success = [{ request_put: { key, value: encodeEntry(entry), lease: leaseId } }];
      try {
        const answer = (await this.client.call('/v3/kv/txn', { compare, success }, timeoutMs)) as TxnAnswer;
        if (answer.succeeded !== true) return { kind: 'overtaken' };
        return { kind: 'written', revision: Number(answer.header.revision) };
      } catch (error) {
        if (error instanceof EtcdError && error.code === NOT_FOUND) return { kind: 'ended' };
        throw error;
      }
    });
  }

  async revoke(leaseId: string, timeoutMs: number): Promise<void> {
    await this.attempt(() => this.client.call('/v3/lease/revoke', { ID: leaseId }, timeoutMs));
  }

  async storePolicies(
    document: Parameters<Registry['storePolicies']>[0],
    { registry, revision }: { readonly registry: string; readonly revision: number },
    timeoutMs: number,
  ): Promise<PolicyWriteResult> {
    const value = await encodeDocument(document);
    const tooLarge = (bound: string): PolicyWriteResult => ({
      kind: 'too-large',
      reason: `${value.length} bytes, ${bound}`,
    });
    if (value.length > MAX_DOCUMENT_BYTES) return tooLarge(`at most ${MAX_DOCUMENT_BYTES}`);
    const compare = [this.isAt(revision), this.isNamed(registry)];
    const success = [{ request_put: { key: this.keys.policies, value: value.toString('base64') } }];
    try {
      const answer = (await this.client.call('/v3/kv/txn', { compare, success }, timeoutMs)) as TxnAnswer;
      if (answer.succeeded !== true) return { kind: 'overtaken' };
      return { kind: 'written', revision: Number(answer.header.revision) };
    } catch (error) {
      const { message, name } = error as Error;
      if (TOO_LARGE.test(message)) return tooLarge(message);
      return { kind: 'failed', reason: message || name, undone: isUndone(error) };
    }
  }

  watch(after: number, listener: Parameters<Registry['watch']>[1]): () => void {
    let over = false;
    const end = (why: 'compacted' | 'broken'): void => {
      if (over) return;
      over = true;
      close();
      listener.ended(why);
    };
    const range = { key: this.keys.members, range_end: this.keys.policiesEnd, start_revision: String(after + 1) };
    const close = this.client.stream(
      '/v3/watch',
      { create_request: range },
      (line) => {
        const { result } = line as WatchAnswer;
        if (over) return;
        if (result === undefined) return end('broken');
        if (result.canceled === true) return end(result.compact_revision === undefined ? 'broken' : 'compacted');
        const byRevision = changesByRevision(result.events ?? [], this.keys);
        for (const [revision, changes] of byRevision) listener.changed(revision, changes);
      },
      () => end('broken'),
    );
    return () => {
      over = true;
      close();
    };
  }

  close(): Promise<void> {
    return this.client.close();
  }

  private async attempt<T>(act: () => Promise<T>): Promise<T | Failed> {
    try {
      return await act();
    } catch (error) {
      return { kind: 'failed', reason: (error as Error).message || (error as Error).name };
    }
  }

  /** Names the registry, unless another node has already named it. */
  private async initialise(timeoutMs: number): Promise<void> {
    const isUnnamed = { target: 'CREATE', result: 'EQUAL', key: this.keys.registry, create_revision: '0' };
    const put = { request_put: { key: this.keys.registry, value: base64(randomUUID()) } };
    await this.client.call('/v3/kv/txn', { compare: [isUnnamed], success: [put] }, timeoutMs);
  }

  private async readOnce(timeoutMs: number): ReturnType<Registry['read']> {
    const small = [
      { request_range: { key: this.keys.members, range_end: this.keys.membersEnd } },
      { request_range: { key: this.keys.registry } },
    ];
    // Etcd sends the policies only if they differ from those of the last read.
    const before = this.lastRead;
    const compare = [this.isAt(before.revision), this.isNamed(before.registry)];
    const failure = [...small, { request_range: { key: this.keys.policies } }];
    const answer = (await this.client.call('/v3/kv/txn', { compare, success: small, failure }, timeoutMs)) as TxnAnswer;
    const { header, succeeded = false, responses = [] } = answer;
    const [kvs = [], [name] = [], [policies] = []] = responses.map(({ response_range }) => response_range?.kvs ?? []);
    if (name?.value === undefined) {
      await this.initialise(timeoutMs);
      return this.readOnce(timeoutMs);
    }
    const entries = kvs.map(decodeEntry).filter((entry): entry is Registration => entry !== undefined);
    const registry = Buffer.from(name.value, 'base64').toString('utf8');
    const stored = succeeded ? before.stored : decodePolicies(policies);
    this.lastRead = { registry, revision: stored.revision, stored };
    return { kind: 'view', registry, revision: Number(header.revision), entries, stored };
  }

  private isAt(revision: number): object {
    return { target: 'MOD', result: 'EQUAL', key: this.keys.policies, mod_revision: String(revision) };
  }

  private isNamed(registry: string): object {
    return { target: 'VALUE', result: 'EQUAL', key: this.keys.registry, value: base64(registry) };
  }
}

/** Groups the events of one answer by revision, in order. */
function changesByRevision(
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

import { LRUCache } from 'lru-cache';
import { atRest } from '../core/bucket.js';
import type { Bucket, Buckets } from '../core/bucket.js';

/** A client as the table holds it: owned, or a copy for another node. Which of the two follows from the ring. */
export class Client implements Buckets {
  first: Bucket | undefined = undefined;
  /** The version of the ring under which this node was found to own the client; 0 when it was not. */
  ownedAtRing = 0;
  /** Whether its buckets changed since they were last copied to the successors. */
  changed = false;
}

/** How many of the clients used longest ago are looked at for one at rest, when the table is full. */
const EVICTION_LOOK = 8;

export interface BucketTable {
  /** Also marks the client as just used. */
  get(clientId: string): Client | undefined;
  /** Like `get`, without the mark. */
  peek(clientId: string): Client | undefined;
  /** Adds a client that the table does not hold. At the bound one at rest makes room, or else the one used longest ago. */
  add(clientId: string, client: Client, nowMs: number): void;
  delete(clientId: string): boolean;
  /** Drops clients at rest among the next `count`, from the one used longest ago on; call it again to go on from there. */
  sweep(count: number, nowMs: number): void;
  /** Every client, the one used longest ago first. Adding and deleting while iterating is allowed. */
  entries(): Iterable<[string, Client]>;
  readonly size: number;
  /** Clients dropped though a limit still counted against them: the bound is too small for the load. */
  readonly unexpiredEvictions: number;
}

/** The buckets that this node holds, at most `maxClients` clients of them. */
export function createBucketTable(options: { maxClients: number }): BucketTable {
  const clients = new LRUCache<string, Client>({ max: options.maxClients });
  let unexpiredEvictions = 0;
  let swept: Iterator<[string, Client]> | undefined;

  function makeRoom(nowMs: number): void {
    let looked = 0;
    for (const [clientId, client] of clients.rentries() as Iterable<[string, Client]>) {
      if (atRest(client, nowMs)) {
        clients.delete(clientId);
        return;
      }
      if (++looked === EVICTION_LOOK) break;
    }
    clients.pop();
    unexpiredEvictions += 1;
  }

  return {
    get: (clientId) => clients.get(clientId),
    peek: (clientId) => clients.peek(clientId),
    add(clientId, client, nowMs) {
      if (clients.size >= options.maxClients) makeRoom(nowMs);
      clients.set(clientId, client);
    },
    delete: (clientId) => clients.delete(clientId),
    sweep(count, nowMs) {
      for (let i = 0; i < count; i += 1) {
        // The iterator survives changes to the table; where its place was deleted it ends early, and the next one starts over.
        swept ??= clients.rentries() as Iterator<[string, Client]>;
        const next = swept.next();
        if (next.done === true) {
          swept = undefined;
          return;
        }
        const [clientId, client] = next.value;
        if (atRest(client, nowMs)) clients.delete(clientId);
      }
    },
    entries: () => clients.rentries() as Iterable<[string, Client]>,
    get size() {
      return clients.size;
    },
    get unexpiredEvictions() {
      return unexpiredEvictions;
    },
  };
}

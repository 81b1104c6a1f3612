import type { BucketTable, Client } from '../../src/state/bucket-table.js';
import { addBucket, take } from '../../src/limits/bucket/bucket.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { tokenBucket } from './rules.js';

const ONE_PER_MS = tokenBucket(1, 1, 1_000_000);

/** Adds a client of whose consumption something is left until `restMs` after `nowMs`, and nothing from then on. */
export function addClient(table: BucketTable, id: string, restMs: number, nowMs: number): Client {
  const client = table.open(clientKey(id));
  take(addBucket(client, ONE_PER_MS, nowMs), restMs);
  table.close(client, nowMs);
  return client;
}

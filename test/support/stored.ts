import type { LastingClient, Store, StoreResult } from '../../src/store/store.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import type { Snapshot } from '../../src/limits/bucket/snapshot.js';

/** A client that owes `tokens`, of which 10 refill per window. */
export function owing(
  clientId: string,
  tokens: number,
  windowMs = 1_000,
): [clientId: string, buckets: readonly Snapshot[]] {
  const rule = ruleOf('token-bucket', 10, windowMs, 1_000, undefined);
  return [clientId, [{ ...rule, ruleChanges: 0, state: [tokens, 0] }]];
}

/** Reads a whole store. */
export async function readAll(store: Store): Promise<{
  readonly result: StoreResult;
  readonly clients: ReadonlyMap<string, LastingClient[1]>;
  readonly chunks: number;
}> {
  const clients = new Map<string, LastingClient[1]>();
  let chunks = 0;
  const result = await store.load((some) => {
    chunks += 1;
    for (const [id, buckets] of some) clients.set(id, buckets);
    return true;
  });
  return { result, clients, chunks };
}

import type { IncomingHttpHeaders } from 'node:http';
import type { Log } from '../../lib/log.js';

const INTERVAL_MS = 600_000;
/** Bound of addresses and ids in one interval. A stranger can invent any number of them. */
const MAX_PEERS = 64;

/** Logs that a node of another cluster has connected: once per node in ten minutes. */
export function createMismatchLog(
  cluster: string,
  log: Log,
): { note(headers: IncomingHttpHeaders, from: string | undefined): void } {
  const logged = new Set<string>();
  let sinceMs = performance.now();
  return {
    note(headers, from) {
      const [peer, theirs] = [headers['tokenring-node'], headers['tokenring-cluster']];
      if (performance.now() - sinceMs > INTERVAL_MS) {
        logged.clear();
        sinceMs = performance.now();
      }
      const key = `${from} ${String(peer)}`;
      if (logged.has(key) || logged.size >= MAX_PEERS) return;
      logged.add(key);
      log.warn(
        {
          peer,
          from,
          cluster,
          theirs,
          advice: 'remove this node from the peers of that one, or set the same TOKENRING_CLUSTER',
        },
        'refused a node of another cluster',
      );
    },
  };
}

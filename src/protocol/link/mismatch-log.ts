import type { IncomingHttpHeaders } from 'node:http';
import type { Log } from '../../lib/log.js';

const INTERVAL_MS = 600_000;
/** Bound of addresses and ids in one interval. A stranger can invent any number of them. */
const MAX_PEERS = 64;

/** Logs that a node of another cluster has connected: once per node in ten minutes. */
export class MismatchLog {
  private readonly logged = new Set<string>();
  private sinceMs = performance.now();

  constructor(
    private readonly cluster: string,
    private readonly log: Log,
  ) {}

  note(headers: IncomingHttpHeaders, from: string | undefined): void {
    const { cluster, logged } = this;
    const [peer, theirs] = [headers['tokenring-node'], headers['tokenring-cluster']];
    if (performance.now() - this.sinceMs > INTERVAL_MS) {
      logged.clear();
      this.sinceMs = performance.now();
    }
    const key = `${from} ${String(peer)}`;
    if (logged.has(key) || logged.size >= MAX_PEERS) return;
    logged.add(key);
    const advice = 'remove this node from the peers of that one, or set the same TOKENRING_CLUSTER';
    this.log.warn({ peer, from, cluster, theirs, advice }, 'refused a node of another cluster');
  }
}

import { ClusterClient, type Client } from './client.js';
import { readClientOptions, type ClientOptions } from './options.js';
import { systemTime } from './runtime.js';
import { NodeConnections } from './nodes/undici.js';

// This is the entry for Node.js. Every other runtime takes `web.ts`, which connects by `fetch`.
export * from './web.js';

/**
 * Creates a client of a cluster. It asks `nodes` at once and learns the members meanwhile. It does not keep the process
 * alive.
 * @throws TypeError that names an option that is unknown or not valid, and what is expected
 */
export function createClient(options: ClientOptions): Client {
  const read = readClientOptions(options);
  return new ClusterClient(new NodeConnections(read), systemTime, read);
}

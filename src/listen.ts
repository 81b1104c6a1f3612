import type { AddressInfo, ListenOptions, Server } from 'node:net';

/**
 * Resolves with the port on which the server listens; for port 0, a free one. Rejects with the error of the operating system.
 * @param sharing whether other workers of a `node:cluster` may listen there too, and which program spreads the connections
 */
export function listen(server: Server, port: number, host: string, sharing: Sharing = 'exclusive'): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host, ...OPTIONS[sharing] }, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

type Sharing = 'exclusive' | 'by-kernel' | 'by-cluster';

/** `reusePort` exists since Node 23.1. */
const OPTIONS: Readonly<Record<Sharing, ListenOptions & { reusePort?: boolean }>> = {
  exclusive: { exclusive: true },
  'by-kernel': { reusePort: true },
  'by-cluster': {},
};

/**
 * How the workers of a group share a port. With `SO_REUSEPORT` the kernel spreads the connections. Without it, the first process of
 * node:cluster accepts each connection and hands it to the next worker in turn.
 */
export function sharingOf(nodeVersion: string, platform: NodeJS.Platform): Exclude<Sharing, 'exclusive'> {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const known = major > 23 || (major === 23 && minor >= 1);
  // On other systems the kernel may give all connections to one worker.
  return known && platform === 'linux' ? 'by-kernel' : 'by-cluster';
}

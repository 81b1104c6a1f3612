import type { AddressInfo, ListenOptions, Server } from 'node:net';

/**
 * Resolves with the port on which the server listens. Rejects with the error of the operating system.
 * @param sharing within a `node:cluster`: whether other workers may listen there too, and who spreads the connections over them
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

/** `reusePort` is there since Node 23.1. */
const OPTIONS: Readonly<Record<Sharing, ListenOptions & { reusePort?: boolean }>> = {
  exclusive: { exclusive: true },
  'by-kernel': { reusePort: true },
  'by-cluster': {},
};

/**
 * How the workers of a group share a port. Where the kernel does it (`SO_REUSEPORT`), no process stands between; else node:cluster's
 * first process accepts each connection and hands it to the next worker in turn.
 */
export function sharingOf(nodeVersion: string, platform: NodeJS.Platform): Exclude<Sharing, 'exclusive'> {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const known = major > 23 || (major === 23 && minor >= 1);
  // On other systems the kernel may give all connections to one of them.
  return known && platform === 'linux' ? 'by-kernel' : 'by-cluster';
}

import { rmSync } from 'node:fs';
import type { AddressInfo, ListenOptions, Server } from 'node:net';

export interface ListenAt {
  /** 0 takes a free port. */
  readonly port: number;
  readonly host: string;
  /** The setting or option that names the port, for error messages. */
  readonly setting: string;
  /** Whether other workers listen there too, and the kernel spreads the connections. Default `exclusive`. */
  readonly sharing?: Listening;
}

/**
 * Resolves with the port on which the server listens. Rejects with the error of the operating system, which says what
 * to do.
 */
export function listen(server: Server, { port, host, setting, sharing = 'exclusive' }: ListenAt): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException): void => {
      const advice = ADVICE[error.code ?? ''] ?? error.message;
      error.message = `${setting}: cannot listen on ${host}:${port} (${error.code}): ${advice}`;
      reject(error);
    };
    server.once('error', fail);
    server.listen({ port, host, ...OPTIONS[sharing] }, () => {
      server.off('error', fail);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/**
 * Resolves when the server listens on the Unix socket. A file of a process that was killed makes room. The directory
 * decides who may connect.
 */
export function listenOnSocket(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

const ADVICE: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program uses the port; stop it, or choose another port',
  EACCES: 'this user may not use the port; choose one above 1023',
  EADDRNOTAVAIL: 'the address is not one of this machine',
  ENOTFOUND: 'the host name does not resolve',
  EMFILE: 'too many open files; raise the limit: ulimit -n 65536',
};

type Listening = 'exclusive' | 'by-kernel';

/** `reusePort` exists since Node 23.1. */
const OPTIONS: Readonly<Record<Listening, ListenOptions & { reusePort?: boolean }>> = {
  exclusive: { exclusive: true },
  'by-kernel': { reusePort: true },
};

/**
 * Chooses how the workers of a group share a port. With `SO_REUSEPORT` the kernel spreads the connections. Without it,
 * the supervisor accepts each connection and hands it to the next worker in turn.
 */
export function sharingOf(nodeVersion: string, platform: NodeJS.Platform): 'by-kernel' | 'by-supervisor' {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const known = major > 23 || (major === 23 && minor >= 1);
  // On other systems the kernel may give all connections to one worker.
  return known && platform === 'linux' ? 'by-kernel' : 'by-supervisor';
}

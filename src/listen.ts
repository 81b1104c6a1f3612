import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Resolves with the port on which the server listens. Rejects with the error of the operating system. */
export function listen(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

/** Ports of loopback that were free a moment ago, each another. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port!;
}

/** A port that is free, and so are the next two, and the three that are 1,000 further: `tokenring cluster` wants them. */
export async function freeRow(): Promise<number> {
  for (;;) {
    const first = await freePort();
    const row = [0, 1, 2, 1_000, 1_001, 1_002].map((more) => first + more);
    if (first < 64_000 && (await Promise.all(row.map(refuses))).every(Boolean)) return first;
  }
}

/** Tells whether nothing listens at this port of loopback. */
export function refuses(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', () => resolve(true));
  });
}

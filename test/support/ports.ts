import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';

/**
 * The ports that tests take are below those that systems give to outgoing connections and to servers that ask for any
 * port: from 32,768 on Linux. Otherwise one of these could take a port between the look at it and its use.
 */
const FIRST_PORT = 10_000;
const LAST_PORT = 30_999;
const givenOut = new Set<number>();

/**
 * Ports of loopback that were free a moment ago, each another, and none twice in this process. They are random, so
 * that processes which ask at the same moment get different ones.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (givenOut.has(port)) continue;
    givenOut.add(port);
    if (await canListen(port)) ports.push(port);
  }
  return ports;
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
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
    if ((await Promise.all(row.map(refuses))).every(Boolean)) return first;
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

import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { startNode } from '../../src/main.js';
import type { RunningNode } from '../../src/main.js';
import { readSettings } from '../../src/settings/settings.js';
import { startNginx } from '../support/nginx.js';
import type { Nginx } from '../support/nginx.js';
import { freePort } from '../support/ports.js';
import { ALONE, call } from '../support/http.js';
import { changed, documented } from './documented.js';

const TOKEN = 'the-admin-token';

/** A node with policies for gateways. */
export async function startLimiter(policies: Record<string, object>, ...flags: string[]): Promise<RunningNode> {
  const node = await startNode(readSettings([...ALONE, '--admin-token', TOKEN, ...flags], {}));
  const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
  for (const [name, policy] of Object.entries(policies))
    await call(node, `/v1/policies/${name}`, { method: 'PUT', headers, body: JSON.stringify(policy) });
  return node;
}

/** What is limited: it says `hello`, and remembers what came. */
export interface Service {
  readonly port: number;
  readonly requests: readonly IncomingMessage[];
  stop(): Promise<void>;
}

export async function startService(): Promise<Service> {
  const requests: IncomingMessage[] = [];
  const server = createServer((req, res) => {
    requests.push(req);
    res.end('hello');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export interface Gateway {
  readonly port: number;
  readonly nginx: Nginx;
}

/** A real nginx with the documented configuration, but for the ports, and what a test says. */
export async function startDocumentedNginx(
  nodes: readonly [first: { port: number }, second: { port: number }],
  service: { port: number },
  ...changes: [from: string, to: string][]
): Promise<Gateway> {
  const port = await freePort();
  const ports: [string, string][] = [
    ['server 127.0.0.1:8080;', `server 127.0.0.1:${nodes[0].port};`],
    ['server 127.0.0.1:8081;', `server 127.0.0.1:${nodes[1].port};`],
    ['http://127.0.0.1:3000;', `http://127.0.0.1:${service.port};`],
    ['listen 8000;', `listen 127.0.0.1:${port};`],
  ];
  return { port, nginx: await startNginx(changed(documented('nginx')[0]!, ...ports, ...changes), port) };
}

/** Sends bytes from an address of loopback, and reads until the other side hangs up, or says nothing more for half a second. */
export function sendFrom(localAddress: string, port: number, ...bytes: readonly (string | Buffer)[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
    // A reset is a way to hang up.
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNREFUSED' ? reject(error) : undefined));
    socket.setTimeout(500, () => socket.destroy()).on('close', () => resolve(text));
    for (const one of bytes) socket.write(one);
  });
}

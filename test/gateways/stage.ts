import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { startNginx } from '../support/nginx.js';
import { startDaemon, type Daemon } from '../support/daemon.js';
import { freePort } from '../support/ports.js';
import { ALONE, call } from '../support/http.js';
import { changed, documented, documentedKong } from './documented.js';
import { HAPROXY } from '../support/programs.js';

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
  readonly daemon: Daemon;
}

type Port = { readonly port: number };
export type Change = readonly [from: string, to: string];
/** Starts a real gateway with the documented configuration, but for the ports, and what a test says. */
export type StartGateway = (
  nodes: readonly [first: Port, second: Port],
  service: Port,
  ...changes: readonly Change[]
) => Promise<Gateway>;

const portsOf = ([first, second]: readonly [Port, Port], service: Port): Change[] => [
  ['127.0.0.1:8080', `127.0.0.1:${first.port}`],
  ['127.0.0.1:8081', `127.0.0.1:${second.port}`],
  ['127.0.0.1:3000', `127.0.0.1:${service.port}`],
];

export const startDocumentedNginx: StartGateway = async (nodes, service, ...changes) => {
  const port = await freePort();
  const ports: Change[] = [...portsOf(nodes, service), ['listen 8000;', `listen 127.0.0.1:${port};`]];
  return { port, daemon: await startNginx(changed(documented('nginx')[0]!, ...ports, ...changes), port) };
};

export const startDocumentedHaproxy: StartGateway = async (nodes, service, ...changes) => {
  const port = await freePort();
  // The name of the inner proxy is of the machine, and other tests may run beside this one.
  const inner: Change = ['abns@tokenring', `abns@tokenring-${port}`];
  const daemon = await startDaemon(port, (folder) => {
    const lua = join(folder, 'tokenring.lua');
    const ports: Change[] = [
      ...portsOf(nodes, service),
      ['bind :8000', `bind 127.0.0.1:${port}`],
      ['/etc/haproxy/tokenring.lua', lua],
      inner,
    ];
    const conf = join(folder, 'haproxy.cfg');
    writeFileSync(lua, changed(readFileSync('config/tokenring.lua', 'utf8'), inner));
    writeFileSync(conf, changed(documented('haproxy')[0]!, ...ports, ...changes));
    return [HAPROXY, '-db', '-f', conf];
  });
  return { port, daemon };
};

/** The Lua that Kong would run, in a real nginx with substitutes for what Kong has around it. */
export const startDocumentedKong: StartGateway = async (nodes, service, ...changes) => {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-kong-'));
  const documentedLua = join(folder, 'documented.lua');
  const [first, second] = portsOf(nodes, service) as [Change, Change];
  writeFileSync(documentedLua, changed(documentedKong().lua, first, second, ...changes));
  const location = [
    `set $documented ${documentedLua};`,
    `access_by_lua_file ${resolve('test/gateways/kong.lua')};`,
    `proxy_pass http://127.0.0.1:${service.port};`,
  ];
  const server = `server { listen 127.0.0.1:${port}; location / { ${location.join(' ')} } }`;
  const daemon = await startNginx(server, port, true);
  return {
    port,
    daemon: {
      ...daemon,
      async remove() {
        await daemon.remove();
        rmSync(folder, { recursive: true, force: true });
      },
    },
  };
};

export const startDocumentedCaddy: StartGateway = async (nodes, service, ...changes) => {
  const port = await freePort();
  const daemon = await startDaemon(port, (folder) => {
    const conf = join(folder, 'Caddyfile');
    const ports: Change[] = [...portsOf(nodes, service), [':8000 {', `http://:${port} {`]];
    const [caddyfile] = documented('caddyfile') as [string];
    writeFileSync(conf, `{\n\tadmin off\n}\n${changed(caddyfile, ...ports, ...changes)}`);
    return ['caddy', 'run', '--config', conf, '--adapter', 'caddyfile'];
  });
  return { port, daemon };
};

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

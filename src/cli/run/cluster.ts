import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { NO_PEER_ANSWERS } from '../../lib/system.js';
import { LineSink } from '../../app/line-sink.js';
import { isPretty as isPrettyLog, prettyLine } from '../../app/log.js';
import { flag, SETTINGS, type Settings } from '../../app/settings/setting-table.js';
import { readSettings, SettingsError, withoutServiceLinks } from '../../app/settings/settings.js';

const DEFAULT_NODES = 3;
const MAX_NODES = 50;
/** Distance of the peer ports from the public ports, unless `--peer-port` says otherwise. */
const PEER_PORT_OFFSET = 1_000;
const WARN = 40;

/**
 * Runs `tokenring cluster`: each node is a process on 127.0.0.1. Ctrl-C stops them together, and so does a node that
 * ends with an error.
 */
export async function runCluster(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { nodes, rest } = readNodes(args);
  const settings = readSettings(rest, withoutServiceLinks(env).own);
  const isPretty = isPrettyLog(settings.log);
  const ports = portsOf(settings, nodes);
  const peers = ports.map(({ peerPort }) => `127.0.0.1:${peerPort}`).join(',');
  const out = LineSink.toStdout();
  if (isPretty) out.write(`Starting ${nodes === 1 ? 'a node' : `${nodes} nodes`} on this machine …\n`);
  const children = ports.map(({ port, peerPort, grpcPort, respPort }, i) => {
    const own = ['--port', `${port}`, '--peer-port', `${peerPort}`, '--peers', peers, '--log', 'json'];
    if (grpcPort !== undefined) own.push('--grpc-port', `${grpcPort}`);
    if (respPort !== undefined) own.push('--resp-port', `${respPort}`);
    return startMember({ name: `node ${i + 1} (127.0.0.1:${port})`, args: [...rest, ...own], env }, (line) => {
      if (!isPretty) out.write(`${line}\n`);
      else if (levelOf(line) >= WARN && !isExpected(line)) out.write(`node ${i + 1}: ${prettyLine(line)}`);
    });
  });
  const terminate = (): void => {
    for (const { child } of children) child.kill('SIGTERM');
  };
  const stop = (): void => {
    if (isPretty) out.write('\nStopping: the nodes finish what they have begun.\n');
    terminate();
  };
  // A closed terminal sends SIGHUP. It must leave no node behind.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  for (const { exited } of children) void exited.then((code) => code !== 0 && terminate());
  const ready = await Promise.all(children.map(({ becomesReady }) => becomesReady));
  if (ready.every(Boolean)) out.write(welcome(ports, isPretty));
  const codes = await Promise.all(children.map(({ exited }) => exited));
  process.exitCode = Math.max(...codes);
}

function welcome(nodes: readonly NodePorts[], isPretty: boolean): string {
  const ports = nodes.map(({ port }) => port);
  const urls = ports.map((port) => `http://127.0.0.1:${port}`);
  const question = `-H 'content-type: application/json' -d '{"clientId":"alice","limit":5,"window":"1m"}'`;
  const tryIt = `curl -s localhost:${ports[0]}/v1/allow ${question}`;
  const dashboard = `${urls[0]}/dashboard`;
  const resp = nodes.flatMap(({ respPort }) => (respPort ? [`127.0.0.1:${respPort}`] : []));
  const grpc = nodes.flatMap(({ grpcPort }) => (grpcPort ? [`127.0.0.1:${grpcPort}`] : []));
  if (!isPretty) {
    const more = { ...(resp.length > 0 && { resp }), ...(grpc.length > 0 && { grpc }) };
    const line = { level: 30, time: Date.now(), urls, ...more, dashboard, try: tryIt, msg: 'cluster ready' };
    return `${JSON.stringify(line)}\n`;
  }
  return (
    `\n${ports.length === 1 ? 'The node is' : `${ports.length} nodes are`} ready: ${urls.join(' ')}\n` +
    (resp.length > 0 ? `The Redis protocol is at ${resp.join(' ')}\n` : '') +
    (grpc.length > 0 ? `gRPC is at ${grpc.join(' ')}\n` : '') +
    `All answer alike. Try:\n\n  ${tryIt}\n\n` +
    `The dashboard is at ${dashboard}, the API is described at ${urls[0]}/docs\nCtrl-C stops.\n`
  );
}

type NodePorts = Pick<Settings, 'port' | 'peerPort' | 'grpcPort' | 'respPort'>;

/** Chooses the ports of each node. Each worker of a node has a peer port of its own. Port 0 stays 0: a free one. */
function portsOf(
  { port, peerPort, grpcPort, respPort, workers }: NodePorts & Pick<Settings, 'workers'>,
  nodes: number,
): NodePorts[] {
  const firstPeer = peerPort === SETTINGS.peerPort.default ? port + PEER_PORT_OFFSET : peerPort;
  const last = Math.max(port + nodes, firstPeer + nodes * workers) - 1;
  if (port === 0 || peerPort === 0 || last > 65_535) {
    throw new SettingsError(
      `--port: ${port} is not valid for ${nodes} nodes, expected a port from 1 whose successors, and peer ports from ${firstPeer}, are below 65536`,
    );
  }
  for (const [name, first] of Object.entries({ grpcPort, respPort }))
    if (first !== undefined && first + nodes - 1 > 65_535)
      throw new SettingsError(
        `${flag(name)}: ${first} is not valid for ${nodes} nodes, expected a port whose successors are below 65536`,
      );
  const nth = (first: number | undefined, i: number): number | undefined => (first ? first + i : first);
  return Array.from({ length: nodes }, (_, i) => ({
    port: port + i,
    peerPort: firstPeer + i * workers,
    grpcPort: nth(grpcPort, i),
    respPort: nth(respPort, i),
  }));
}

interface Member {
  readonly child: ChildProcess;
  /** Whether it was ready before it ended. */
  readonly becomesReady: Promise<boolean>;
  readonly exited: Promise<number>;
}

/** Starts a node. Its errors name it. */
function startMember(
  { name, args, env }: { name: string; args: readonly string[]; env: NodeJS.ProcessEnv },
  log: (line: string) => void,
): Member {
  const cli = fileURLToPath(new URL('../../cli.js', import.meta.url));
  // The node has a process group of its own. Ctrl-C reaches only this process, which then stops each node once.
  const child = spawn(process.execPath, [cli, 'serve', ...args], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  process.on('exit', () => child.kill('SIGKILL'));
  createInterface({ input: child.stderr }).on('line', (line) => {
    process.stderr.write(`${line.replace(/^tokenring: /, `tokenring: ${name}: `)}\n`);
  });
  const exited = new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1)));
  const becomesReady = new Promise<boolean>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      log(line);
      if (line.includes('"msg":"tokenring ready"')) resolve(true);
    });
    void exited.then(() => resolve(false));
  });
  return { child, becomesReady, exited };
}

/** The nodes of a new cluster start at once, so the quickest meets none. */
function isExpected(line: string): boolean {
  return line.includes(`"msg":"${NO_PEER_ANSWERS}"`);
}

function levelOf(line: string): number {
  return Number(/^\{"level":(\d+)/.exec(line)?.[1] ?? 0);
}

function readNodes(args: readonly string[]): { nodes: number; rest: string[] } {
  const rest = [...args];
  const at = rest.findIndex((arg) => arg === '--nodes' || arg.startsWith('--nodes='));
  if (at < 0) return { nodes: DEFAULT_NODES, rest };
  const text = rest[at]!.startsWith('--nodes=')
    ? rest.splice(at, 1)[0]!.slice('--nodes='.length)
    : rest.splice(at, 2)[1];
  const nodes = /^\d{1,2}$/.test(text ?? '') ? Number(text) : 0;
  if (nodes < 1 || nodes > MAX_NODES)
    throw new SettingsError(`--nodes: ${text} is not valid, expected 1 to ${MAX_NODES}`);
  return { nodes, rest };
}

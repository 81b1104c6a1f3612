import { createServer, type AddressInfo, type Socket } from 'node:net';
import type { Envelope, MemberRecord, PeerMessage } from '../../src/protocol/messages.js';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { call } from '../support/http.js';
import { freePorts } from '../support/ports.js';
import { SENDER } from '../peer/support.js';

export const SECRET = 'correct horse battery staple';

export interface AttackedRing {
  readonly nodes: readonly RunningNode[];
  /** Where the nodes listen to peers. */
  readonly peerPorts: readonly number[];
  stop(): Promise<void>;
}

/** Two nodes with a secret, in this process. */
export async function startAttackedRing(...flags: string[]): Promise<AttackedRing> {
  const peerPorts = await freePorts(2);
  const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
  const fixed = [
    '--port',
    '0',
    '--peers',
    peers,
    '--peer-secret',
    SECRET,
    '--log-level',
    'silent',
    '--audit-log',
    '/dev/null',
  ];
  const nodes = await Promise.all(
    peerPorts.map((port) => startNode(readSettings([...fixed, '--peer-port', String(port), ...flags], {}))),
  );
  return {
    nodes,
    peerPorts,
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

/** Somebody who has nothing to do with it, and what comes to them. */
export async function startVictim(): Promise<{
  id: string;
  connections: () => number;
  bytes: () => string;
  close(): void;
}> {
  let connections = 0;
  let bytes = '';
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('data', (chunk: Buffer) => (bytes += chunk.toString('latin1'))).on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    id: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
    bytes: () => bytes,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

export function memberOf(id: string, more: Partial<MemberRecord> = {}): MemberRecord {
  return {
    id,
    incarnation: 1,
    state: 'active',
    beat: 1,
    version: '0',
    url: '',
    silentMs: 0,
    suspected: false,
    ...more,
  };
}

export function envelope(
  body: PeerMessage,
  from = memberOf(SENDER.from.id, { state: 'joining' }),
): Envelope<PeerMessage> {
  return { sender: { from, view: 'x', policies: '0' }, body };
}

export async function membersOf(node: RunningNode): Promise<{ id: string; state: string }[]> {
  return ((await call(node, '/v1/cluster')).json as { members: { id: string; state: string }[] }).members;
}

import type { ServerOptions } from 'node:https';
import type { buildConnector } from 'undici';
import type { Socket } from 'node:net';
import type { Server } from 'node:tls';

/** Certificates by which peers prove who they are, each as the contents of a PEM file. */
export interface PeerTls {
  readonly cert: string;
  readonly key: string;
  /** Authority that signs the certificates of peers. Default: the authorities that Node trusts. */
  readonly ca?: string | undefined;
  /** Requires a certificate signed by `ca` of peers that connect (mTLS). */
  readonly requireClientCert?: boolean | undefined;
  /** Name in the certificates of all peers. Default: the host under which a peer is reached. */
  readonly servername?: string | undefined;
}

/** Bound of the duration of a TLS handshake. */
const HANDSHAKE_MS = 5_000;

/**
 * @throws Error when client certificates are required without a `ca`, as any public certificate would then be accepted
 */
export function serverTls({ cert, key, ca, requireClientCert = false }: PeerTls): ServerOptions {
  if (requireClientCert && ca === undefined) throw new Error('client certificates can only be required with a CA');
  return {
    cert,
    key,
    ca,
    requestCert: requireClientCert,
    rejectUnauthorized: requireClientCert,
    minVersion: 'TLSv1.2',
    handshakeTimeout: HANDSHAKE_MS,
  };
}

export function clientTls({ cert, key, ca, servername }: PeerTls): buildConnector.BuildOptions {
  return { cert, key, ca, minVersion: 'TLSv1.2', ...(servername !== undefined && { servername }) };
}

/**
 * Time between the TLS handshakes of connections that come together, in ms. A handshake takes 1 to 2 ms of the event
 * loop, and several nodes may share a core.
 */
const HANDSHAKE_EVERY_MS = 20;

/**
 * Makes a server begin TLS at once with a connection that comes alone, and with one every 20 ms where many come
 * together. So strangers, who cost a handshake each before they are refused, leave time for the requests of callers.
 * @param isKnown whether connections from this address go first, because a member has come from there
 */
export function paceHandshakes(server: Server, isKnown: (address: string | undefined) => boolean): void {
  const begins = server.listeners('connection') as ((this: Server, socket: Socket) => void)[];
  server.removeAllListeners('connection');
  /** Connections that wait, oldest first. The bound of strangers drops the oldest of them. */
  const known = new Set<Socket>();
  const unknown = new Set<Socket>();
  let pacing = false;

  function beginNext(): void {
    const [socket] = known.size > 0 ? known : unknown;
    pacing = socket !== undefined;
    if (socket === undefined) return;
    setTimeout(beginNext, HANDSHAKE_EVERY_MS).unref();
    forget(socket);
    socket.off('error', ignore);
    for (const begin of begins) begin.call(server, socket);
  }

  function forget(socket: Socket): void {
    known.delete(socket);
    unknown.delete(socket);
  }

  server.on('connection', (socket: Socket) => {
    socket.on('error', ignore);
    socket.once('close', () => forget(socket));
    (isKnown(socket.remoteAddress) ? known : unknown).add(socket);
    if (!pacing) beginNext();
  });
}

/** A socket that breaks before its handshake is closed, and nothing else. */
function ignore(): void {}

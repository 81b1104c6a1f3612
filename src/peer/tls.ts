import type { ServerOptions } from 'node:https';
import type { buildConnector } from 'undici';

/** How peers prove by certificates who they are; all as the contents of PEM files. */
export interface PeerTls {
  readonly cert: string;
  readonly key: string;
  /** Who may have signed the certificates of peers; without it, the authorities that Node trusts. */
  readonly ca?: string | undefined;
  /** Whether a peer that connects must show a certificate signed by `ca` (mTLS). */
  readonly requireClientCert?: boolean | undefined;
  /** The name that the certificates of all peers bear; without it, each must bear the host under which it is reached. */
  readonly servername?: string | undefined;
}

/** A handshake takes no longer. */
const HANDSHAKE_MS = 5_000;

/** @throws Error when client certificates are asked for without saying who may sign them: any public one would do */
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

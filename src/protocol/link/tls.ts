import type { ServerOptions } from 'node:https';
import type { buildConnector } from 'undici';

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

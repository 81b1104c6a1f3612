import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import type { Audit } from '../server/edge/audit.js';
import type { PeerTls } from '../protocol/link/tls.js';
import { variable, type Settings } from './settings/setting-table.js';
import { SettingsError } from './settings/settings.js';
import { watchFiles } from '../lib/files.js';

/** The contents of PEM files. */
interface Certificates {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

/** The listener that a certificate is for. */
type Side = 'tls' | 'peerTls';

/**
 * Reads the certificate files that the settings name. Returns `undefined` when they name none.
 * @throws SettingsError when a file is no certificate, or the key belongs to another one
 */
export function readCertificates(settings: Settings, side: Side): Certificates | undefined {
  try {
    return read(settings, side);
  } catch (cause) {
    throw new SettingsError(`${variable(`${side}Cert`)}, KEY, CA: not valid: ${(cause as Error).message}`, { cause });
  }
}

function read(settings: Settings, side: Side): Certificates | undefined {
  const [cert, key, ca] = [settings[`${side}Cert`], settings[`${side}Key`], settings[`${side}Ca`]];
  if (cert === undefined || key === undefined) return undefined;
  const text = (path: string): string => readFileSync(path, 'utf8');
  const certificates = { cert: text(cert), key: text(key), ca: ca === undefined ? undefined : text(ca) };
  createSecureContext(certificates);
  return certificates;
}

/**
 * Calls `use` with the certificates after the files have changed. Invalid or incomplete files change nothing.
 * @returns stops watching
 */
export function watchCertificates(
  settings: Settings,
  side: Side,
  { log, audit }: { log: Logger; audit: Audit },
  use: (certificates: Certificates) => void,
): () => void {
  const paths = [settings[`${side}Cert`], settings[`${side}Key`], settings[`${side}Ca`]];
  let inUse = readCertificates(settings, side);
  if (inUse === undefined) return () => undefined;
  return watchFiles(
    paths.filter((path) => path !== undefined),
    () => {
      try {
        const next = read(settings, side)!;
        use(next);
        const before = shown(inUse!);
        inUse = next;
        audit({ who: { file: paths[0]! }, what: 'certificates read', target: side, before, after: shown(next) });
      } catch (error) {
        const reason = (error as Error).message;
        log.error({ side, reason }, 'the certificate files are not valid; the certificate in use stays');
      }
    },
  );
}

export function publicTls(settings: Settings, certificates: Certificates | undefined): TlsOptions | undefined {
  if (certificates === undefined) return undefined;
  const { tlsRequireClientCert: required } = settings;
  return { ...certificates, minVersion: 'TLSv1.2', requestCert: required, rejectUnauthorized: required };
}

/** Callers reach all nodes behind one DNS name by address, but the certificates carry the name. */
export function peerTls(settings: Settings, certificates: Certificates | undefined): PeerTls | undefined {
  if (certificates === undefined) return undefined;
  const { peerTlsRequireClientCert: requireClientCert, dnsName } = settings;
  return { ...certificates, requireClientCert, servername: dnsName?.slice(0, dnsName.lastIndexOf(':')) };
}

function shown({ cert, ca }: Certificates): object {
  const { fingerprint256, validTo } = new X509Certificate(cert);
  return { fingerprint256, validTo, ca: ca === undefined ? undefined : new X509Certificate(ca).fingerprint256 };
}

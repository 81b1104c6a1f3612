import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { parseArgs } from 'node:util';

export const DEFAULT_PEER_PORT = 9080;
export const DEFAULT_MAX_CLIENTS = 1_000_000;
export const CLUSTER_DEFAULTS = { replicas: 1, replicationIntervalMs: 50, suspectAfterMs: 1_000 } as const;

/** What a setting's text means; `undefined` when it is not valid. */
type Parse<T> = (text: string) => T | undefined;

interface Setting<T> {
  readonly parse: Parse<T>;
  readonly expected: string;
  readonly default: T;
}

function setting<T>(parse: Parse<T>, expected: string, fallback: T): Setting<T> {
  return { parse, expected, default: fallback };
}

function whole(min: number, max: number, fallback: number): Setting<number> {
  const parse: Parse<number> = (text) => {
    const value = /^\d{1,12}$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  };
  return setting(parse, `a whole number from ${min} to ${max}`, fallback);
}

const host: Parse<string> = (text) => (/^[\w.:-]+$/.test(text) ? text : undefined);
const HOST = 'a host name or address';
const hostPort: Parse<string> = (text) => {
  const port = /^(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})$/.exec(text)?.[1];
  return Number(port) >= 1 && Number(port) <= 65535 ? text : undefined;
};
const oneOf = <T extends string>(...values: readonly T[]): Setting<T> =>
  setting((text) => values.find((value) => value === text), values.join(' or '), values[0]!);
const peers: Parse<readonly string[]> = (text) => {
  const list = text.split(',').map((peer) => peer.trim());
  return list.every((peer) => hostPort(peer) !== undefined) ? list : undefined;
};
const nonEmpty: Parse<string> = (text) => (text === '' ? undefined : text);
/** What an `Authorization` header can carry. */
const token: Parse<string> = (text) => (/^[\x21-\x7e]+$/.test(text) ? text : undefined);
const PEM = 'the path of a PEM file';
const pem: Parse<string> = (text) => {
  try {
    return readFileSync(text, 'utf8');
  } catch {
    return undefined;
  }
};
const yes: Parse<boolean> = (text) => (text === 'true' ? true : text === 'false' ? false : undefined);

/** Every setting: `name` is `TOKENRING_NAME` in the environment and `--name` as a flag, words split by `_` and `-`. */
const SETTINGS = {
  host: setting<string>(host, HOST, '127.0.0.1'),
  port: whole(0, 65535, 8080),
  peerHost: setting<string>(host, HOST, '127.0.0.1'),
  peerPort: whole(0, 65535, DEFAULT_PEER_PORT),
  advertise: setting<string | undefined>(hostPort, 'host:port', undefined),
  discovery: oneOf('static', 'dns'),
  peers: setting<readonly string[]>(peers, 'host:port, several separated by commas', []),
  dnsName: setting<string | undefined>(hostPort, 'name:port', undefined),
  peerSecret: setting<string | undefined>(nonEmpty, 'some text', undefined),
  replicas: whole(1, 5, CLUSTER_DEFAULTS.replicas),
  replicationIntervalMs: whole(1, 60_000, CLUSTER_DEFAULTS.replicationIntervalMs),
  suspectAfterMs: whole(100, 600_000, CLUSTER_DEFAULTS.suspectAfterMs),
  onUnavailable: oneOf('local', 'open', 'closed'),
  tlsCert: setting<string | undefined>(pem, PEM, undefined),
  tlsKey: setting<string | undefined>(pem, PEM, undefined),
  tlsCa: setting<string | undefined>(pem, PEM, undefined),
  tlsRequireClientCert: setting<boolean>(yes, 'true or false', false),
  peerTlsCert: setting<string | undefined>(pem, PEM, undefined),
  peerTlsKey: setting<string | undefined>(pem, PEM, undefined),
  peerTlsCa: setting<string | undefined>(pem, PEM, undefined),
  peerTlsRequireClientCert: setting<boolean>(yes, 'true or false', false),
  adminToken: setting<string | undefined>(token, 'printable ASCII without spaces', undefined),
  maxClients: whole(1, 2 ** 24, DEFAULT_MAX_CLIENTS),
  deniedStatus: setting<200 | 429>(
    (text) => (text === '200' ? 200 : text === '429' ? 429 : undefined),
    '200 or 429',
    429,
  ),
  logLevel: setting<string>(
    (text) => (['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].includes(text) ? text : undefined),
    'fatal, error, warn, info, debug, trace or silent',
    'info',
  ),
};

/** Not to be shown, not even when wrong. */
const SECRET: ReadonlySet<string> = new Set(['adminToken', 'peerSecret']);

type Name = keyof typeof SETTINGS;
export type Settings = { readonly [N in Name]: (typeof SETTINGS)[N]['default'] };

/** A setting that is unknown or not valid: one line that names it, its value and what is expected. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

const NAMES = Object.keys(SETTINGS) as Name[];
const dashed = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const variable = (name: string): string => `TOKENRING_${dashed(name).replaceAll('-', '_').toUpperCase()}`;

/**
 * The settings from flags, then environment, then the JSON file named by `TOKENRING_CONFIG`, then defaults.
 * @throws SettingsError
 */
export function readSettings(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Settings {
  const flags = readFlags(args);
  const variables = new Map(NAMES.map((name) => [variable(name), name]));
  for (const key of Object.keys(env)) {
    if (key.startsWith('TOKENRING_') && key !== 'TOKENRING_CONFIG' && !variables.has(key)) {
      throw new SettingsError(`${key}: there is no such setting`);
    }
  }
  const configPath = flags.get('config') ?? env['TOKENRING_CONFIG'];
  const file = configPath === undefined ? new Map<string, string>() : readFile(configPath);
  const values: Record<string, unknown> = {};
  for (const name of NAMES) {
    const { parse, expected, default: fallback } = SETTINGS[name] as Setting<unknown>;
    const given: [string, string | undefined][] = [
      [`--${dashed(name)}`, flags.get(name)],
      [variable(name), env[variable(name)]],
      [`${configPath}: ${name}`, file.get(name)],
    ];
    const found = given.find(([, text]) => text !== undefined);
    if (found === undefined) {
      values[name] = fallback;
      continue;
    }
    const [from, text] = found as [string, string];
    const value = parse(text);
    if (value === undefined) {
      const shown = SECRET.has(name) ? 'the value given' : JSON.stringify(text);
      throw new SettingsError(`${from}: ${shown} is not valid, expected ${expected}`);
    }
    values[name] = value;
  }
  const settings = values as Settings;
  requireTogether(settings);
  return settings;
}

/** What is only valid, or only safe, in company. */
function requireTogether(settings: Settings): void {
  const { peerHost, peerSecret, peerTlsRequireClientCert } = settings;
  requirePeerSecret(peerHost, peerSecret !== undefined || peerTlsRequireClientCert);
  if (settings.discovery === 'dns' && settings.dnsName === undefined) {
    throw new SettingsError(
      'TOKENRING_DNS_NAME: nothing is not valid, expected name:port with TOKENRING_DISCOVERY dns',
    );
  }
  for (const prefix of ['tls', 'peerTls'] as const) {
    const [cert, key, ca] = [settings[`${prefix}Cert`], settings[`${prefix}Key`], settings[`${prefix}Ca`]];
    if ((cert === undefined) !== (key === undefined)) {
      const missing = cert === undefined ? 'Cert' : 'Key';
      throw new SettingsError(
        `${variable(prefix + missing)}: nothing is not valid, expected ${PEM}: CERT and KEY go together`,
      );
    }
    if (settings[`${prefix}RequireClientCert`] && (cert === undefined || ca === undefined)) {
      throw new SettingsError(
        `${variable(prefix)}_REQUIRE_CLIENT_CERT: true is not valid, expected CERT, KEY and CA with it`,
      );
    }
  }
}

/** @throws SettingsError where anybody could speak as a peer */
export function requirePeerSecret(peerHost: string, authenticated: boolean): void {
  if (authenticated || isLoopback(peerHost)) return;
  throw new SettingsError(
    `TOKENRING_PEER_HOST: ${JSON.stringify(peerHost)} is open to others, expected TOKENRING_PEER_SECRET or TOKENRING_PEER_TLS_REQUIRE_CLIENT_CERT with it`,
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** The `host:port` under which others reach a listener: its own, or the machine's first where it listens on all. */
export function reachableAt(host: string, port: number): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const own =
    host === '0.0.0.0' || host === '::'
      ? all.find(({ internal, family }) => !internal && family === 'IPv4')
      : undefined;
  const address = own?.address ?? host;
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function readFlags(args: readonly string[]): Map<string, string> {
  const options = Object.fromEntries(['config', ...NAMES].map((name) => [dashed(name), { type: 'string' as const }]));
  try {
    const { values } = parseArgs({ args: [...args], options, strict: true, allowPositionals: false });
    return new Map(
      ['config', ...NAMES].flatMap((name) => {
        const value = values[dashed(name)];
        return typeof value === 'string' ? [[name, value] as const] : [];
      }),
    );
  } catch (cause) {
    throw new SettingsError((cause as Error).message.replaceAll('\n', ' '), { cause });
  }
}

function readFile(path: string): Map<string, string> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SettingsError(`TOKENRING_CONFIG: ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    // The parser's message would quote the file, secrets included.
    throw new SettingsError(`TOKENRING_CONFIG: ${path} is not valid JSON, expected an object of settings`);
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new SettingsError(`TOKENRING_CONFIG: ${path} is not valid, expected an object of settings`);
  }
  return new Map(
    Object.entries(content).map(([name, value]) => {
      if (!NAMES.includes(name as Name))
        throw new SettingsError(`${path}: there is no setting ${JSON.stringify(name)}`);
      if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') {
        throw new SettingsError(`${path}: ${name} is not valid, expected text or a number`);
      }
      return [name, String(value)];
    }),
  );
}

import { readFileSync } from 'node:fs';

/** What a setting's text means; `undefined` when it is not valid. */
type Parse<T> = (text: string) => T | undefined;

export interface Setting<T> {
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
export const PEM = 'the path of a PEM file';
const pem: Parse<string> = (text) => {
  try {
    return readFileSync(text, 'utf8');
  } catch {
    return undefined;
  }
};
const yes: Parse<boolean> = (text) => (text === 'true' ? true : text === 'false' ? false : undefined);

/** Every setting: `name` is `TOKENRING_NAME` in the environment and `--name` as a flag, words split by `_` and `-`. */
export const SETTINGS = {
  host: setting<string>(host, HOST, '127.0.0.1'),
  port: whole(0, 65535, 8080),
  peerHost: setting<string>(host, HOST, '127.0.0.1'),
  peerPort: whole(0, 65535, 9080),
  advertise: setting<string | undefined>(hostPort, 'host:port', undefined),
  discovery: oneOf('static', 'dns'),
  peers: setting<readonly string[]>(peers, 'host:port, several separated by commas', []),
  dnsName: setting<string | undefined>(hostPort, 'name:port', undefined),
  peerSecret: setting<string | undefined>(nonEmpty, 'some text', undefined),
  replicas: whole(1, 5, 1),
  replicationIntervalMs: whole(1, 60_000, 50),
  suspectAfterMs: whole(100, 600_000, 1_000),
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
  maxClients: whole(1, 2 ** 24, 1_000_000),
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

export type Name = keyof typeof SETTINGS;
export type Settings = { readonly [N in Name]: (typeof SETTINGS)[N]['default'] };

/** Not to be shown, not even when wrong. */
export const SECRET: ReadonlySet<string> = new Set(['adminToken', 'peerSecret']);

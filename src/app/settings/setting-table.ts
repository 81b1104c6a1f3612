import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isOrigin } from '../../limits/origin.js';
import { parseRedisAddress } from '../../store/redis-address.js';

/** Parses the text of a setting; `undefined` when it is not valid. */
type Parse<T> = (text: string) => T | undefined;

export interface Setting<T> {
  readonly parse: Parse<T>;
  readonly expected: string;
  readonly default: T;
  /** The description in `--help`. */
  readonly meaning: string;
}

function setting<T>(parse: Parse<T>, expected: string, fallback: T, meaning: string): Setting<T> {
  return { parse, expected, default: fallback, meaning };
}

function wholeNumber(text: string, min: number, max: number): number | undefined {
  const value = /^\d{1,12}$/.test(text) ? Number(text) : NaN;
  return value >= min && value <= max ? value : undefined;
}

function whole(min: number, max: number, fallback: number, meaning: string): Setting<number> {
  return setting((text) => wholeNumber(text, min, max), `a whole number from ${min} to ${max}`, fallback, meaning);
}

const host: Parse<string> = (text) => (/^[\w.:-]+$/.test(text) ? text : undefined);
const HOST = 'a host name or address';
const hosts: Parse<readonly string[]> = (text) => {
  const list = text.split(',').map((one) => one.trim());
  return list.every((one) => one === '*' || /^(?:[\w.-]+|\[[\da-fA-F:.]+\])$/.test(one)) ? list : undefined;
};
const hostPort: Parse<string> = (text) => {
  const port = /^(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})$/.exec(text)?.[1];
  return Number(port) >= 1 && Number(port) <= 65535 ? text : undefined;
};
const oneOf = <T extends string>(values: readonly T[], meaning: string): Setting<T> =>
  setting((text) => values.find((value) => value === text), values.join(' or '), values[0]!, meaning);
const peers: Parse<readonly string[]> = (text) => {
  const list = text.split(',').map((peer) => peer.trim());
  return list.every((peer) => hostPort(peer) !== undefined) ? list : undefined;
};
const endpoints: Parse<readonly string[]> = (text) => {
  const list = text.split(',').map((endpoint) => endpoint.trim());
  const isOne = (endpoint: string): boolean => hostPort(endpoint.replace(/^https?:\/\//, '')) !== undefined;
  return list.every((one) => /^https?:\/\//.test(one) && isOne(one)) ? list : undefined;
};
const nonEmpty: Parse<string> = (text) => (text === '' ? undefined : text);
const secrets: Parse<string> = (text) => {
  const list = text.split(',');
  const isValid = list.every((secret) => secret !== '' && secret === secret.trim());
  return isValid && list.length <= MAX_SECRETS && new Set(list).size === list.length ? text : undefined;
};
/** Secrets in one setting. A change of the secret needs two. */
const MAX_SECRETS = 4;
/** Accepts the characters that an `Authorization` header can carry. */
const token: Parse<string> = (text) => (/^[\x21-\x7e]+$/.test(text) ? text : undefined);
export const PEM = 'the path of a PEM file';
const pem: Parse<string> = (text) => {
  try {
    readFileSync(text);
    return text;
  } catch {
    return undefined;
  }
};
const storeAddress: Parse<string> = (text) => {
  if (text === 'memory' || /^lmdb:[^\0]+$/.test(text)) return text;
  return parseRedisAddress(text) === undefined ? undefined : text;
};
const yes: Parse<boolean> = (text) => (text === 'true' ? true : text === 'false' ? false : undefined);

const optional = (parse: Parse<string>, expected: string, meaning: string): Setting<string | undefined> =>
  setting<string | undefined>(parse, expected, undefined, meaning);

const optionalPort = (meaning: string): Setting<number | undefined> =>
  setting<number | undefined>(
    (text) => wholeNumber(text, 0, 65535),
    'a whole number from 0 to 65535',
    undefined,
    meaning,
  );

const trueOrFalse = (meaning: string): Setting<boolean> => setting<boolean>(yes, 'true or false', false, meaning);

const MAX_WORKERS = 256;

/**
 * All settings. A setting is `TOKENRING_NAME` in the environment and `--name` as a flag; `_` and `-` separate its
 * words.
 */
export const SETTINGS = {
  host: setting<string>(host, HOST, '127.0.0.1', 'host of the public API'),
  port: whole(0, 65535, 8080, 'port of the public API; 0 takes a free one'),
  grpcPort: optionalPort("port of Envoy's rate limit service over gRPC; off by default; 0 takes a free one"),
  respPort: optionalPort('port of the Redis protocol; off by default; 0 takes a free one'),
  peerHost: setting<string>(host, HOST, '127.0.0.1', 'host of the port for other nodes'),
  peerPort: whole(0, 65535, 9080, 'port for other nodes; 0 takes a free one'),
  advertise: optional(
    hostPort,
    'host:port',
    'address at which other nodes reach this one, and its id; default: peer host and port',
  ),
  publicUrl: optional(
    (text) => (text === 'none' || isOrigin(text) ? text : undefined),
    'http://host:port, https://host:port, or none',
    'address at which callers reach this node, for clients that ask owners directly; default: from the hosts and ports',
  ),
  allowedHosts: setting<readonly string[]>(
    hosts,
    'host names or addresses, several separated by commas, or *',
    [],
    'names by which browsers and proxies reach a node on loopback; its pages also work below these names; *: any name',
  ),
  discovery: oneOf(['static', 'dns', 'etcd'], 'how peers are found: by peers, by dns-name, or in etcd'),
  peers: setting<readonly string[]>(
    peers,
    'host:port, several separated by commas',
    [],
    'some of the other nodes; may include this one',
  ),
  dnsName: optional(hostPort, 'name:port', 'name that resolves to the peers'),
  etcdEndpoints: setting<readonly string[]>(
    endpoints,
    'http://host:port or https://host:port, several separated by commas',
    [],
    'members of etcd',
  ),
  etcdPrefix: setting<string>(
    (text) => (/^[\x21-\x7e]{1,200}\/$/.test(text) ? text : undefined),
    'printable ASCII that ends with /',
    '/tokenring/',
    'prefix of keys in etcd; nodes with the same prefix form one ring',
  ),
  etcdLeaseMs: setting<number>(
    (text) => (/^[1-9]\d{0,2}000$/.test(text) && Number(text) >= 2_000 ? Number(text) : undefined),
    'whole seconds, from 2000 to 999000',
    5_000,
    'a member that does not renew its lease in etcd for this time leaves the ring',
  ),
  etcdUser: optional(nonEmpty, 'some text', 'user of etcd'),
  etcdPassword: optional(nonEmpty, 'some text', 'password of that user'),
  etcdTlsCert: optional(pem, PEM, 'certificate of this node for etcd'),
  etcdTlsKey: optional(pem, PEM, 'key of that certificate'),
  etcdTlsCa: optional(pem, PEM, 'CA of etcd'),
  strict: trueOrFalse('with etcd: at most one node decides for a client, under any fault'),
  peerSecret: optional(
    secrets,
    'one secret, or up to 4 different ones separated by commas, none of them empty or with white space around it',
    'shared secret by which peers authenticate each other; of several, the first is used and all are accepted',
  ),
  cluster: setting<string>(
    (text) => (/^[\w.-]{1,64}$/.test(text) ? text : undefined),
    '1 to 64 letters, digits, and _ . -',
    'default',
    'name of the cluster; nodes of another name are refused',
  ),
  replicas: whole(1, 5, 1, 'number of successors on the ring that hold a copy'),
  replicationIntervalMs: whole(1, 60_000, 50, 'maximum age of a copy'),
  suspectAfterMs: whole(100, 600_000, 1_000, 'a member that is silent for this time leaves the ring'),
  bootstrapMs: whole(
    0,
    600_000,
    2_000,
    'with peers configured: time to wait for one of them before beginning a new ring; --bootstrap: 0',
  ),
  onUnavailable: oneOf(
    ['local', 'open', 'closed'],
    'if neither owner nor successor answers: decide with an equal share, allow, or deny',
  ),
  store: setting<string>(
    storeAddress,
    'memory, lmdb:PATH, redis://HOST or rediss://HOST',
    'memory',
    'storage that survives a restart of all nodes',
  ),
  storeIntervalMs: whole(10, 60_000, 200, 'time between writes to the store'),
  tlsCert: optional(pem, PEM, 'certificate of the public API; turns on HTTPS'),
  tlsKey: optional(pem, PEM, 'key of that certificate'),
  tlsCa: optional(pem, PEM, 'CA of client certificates'),
  tlsRequireClientCert: trueOrFalse('whether callers must have a certificate'),
  peerTlsCert: optional(pem, PEM, 'certificate of this node for other nodes'),
  peerTlsKey: optional(pem, PEM, 'key of that certificate'),
  peerTlsCa: optional(pem, PEM, 'CA of the certificates of other nodes'),
  peerTlsRequireClientCert: trueOrFalse('whether other nodes must have a certificate'),
  adminToken: optional(
    token,
    'printable ASCII without spaces',
    'bearer token for changes; without it, changes are refused',
  ),
  tokens: optional(nonEmpty, 'the path of a JSON file', 'more bearer tokens, hashed, and the roles that requests need'),
  auditLog: optional(nonEmpty, 'the path of a file', 'audit log of all changes; default: the normal log'),
  maxConnections: whole(10, 1_000_000, 10_000, 'open connections to the public API'),
  maxConnectionsPerAddress: whole(
    0,
    1_000_000,
    0,
    'open connections from one address or IPv6 /64; 0: no bound, for use behind a proxy',
  ),
  maxInFlight: whole(
    1,
    1_000_000,
    10_000,
    'decisions that wait for other nodes, and as many other requests; the rest get 503',
  ),
  memoryMb: setting<number>(
    (text) => wholeNumber(text, 192, 2 ** 20),
    'a whole number from 192 to 1048576',
    0,
    'memory budget in MiB for all workers together; default: from the container, or the heap',
  ),
  maxClients: whole(1, 2 ** 24, 1_000_000, 'clients that the bucket table of each worker holds'),
  workers: setting<number>(
    (text) => (text === 'auto' ? availableParallelism() : wholeNumber(text, 1, MAX_WORKERS)),
    `auto or a whole number from 1 to ${MAX_WORKERS}`,
    1,
    'worker processes behind the public port, one per core; auto: all cores',
  ),
  workerPort: setting<number | 'none' | undefined>(
    (text) => (text === 'none' ? text : wholeNumber(text, 0, 65535)),
    'a whole number from 0 to 65535, or none',
    undefined,
    'public port of the first worker, followed by those of the others; default: the ports after port; 0 takes free ones',
  ),
  policies: optional(
    nonEmpty,
    'the path of a JSON file, or none',
    'named policies, watched; default: config/policies.json, if present',
  ),
  policiesState: optional(
    nonEmpty,
    'a path, or none',
    'file that keeps policies across restarts; default: .tokenring/policies.state, or beside the file of --policies',
  ),
  deniedStatus: setting<200 | 429>(
    (text) => (text === '200' ? 200 : text === '429' ? 429 : undefined),
    '200 or 429',
    429,
    'HTTP status of a denial',
  ),
  traceClientIds: trueOrFalse('whether OpenTelemetry spans contain the client id'),
  log: oneOf(['auto', 'pretty', 'json'], 'format of log lines; auto: pretty on a terminal, JSON elsewhere'),
  logLevel: setting<string>(
    (text) => (['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].includes(text) ? text : undefined),
    'fatal, error, warn, info, debug, trace or silent',
    'info',
    'lowest level that is logged',
  ),
};

export type Name = keyof typeof SETTINGS;
export type Settings = { readonly [N in Name]: (typeof SETTINGS)[N]['default'] };

/** Settings whose values are never shown, not even when they are wrong. */
export const SECRET: ReadonlySet<string> = new Set(['adminToken', 'etcdPassword', 'peerSecret', 'store']);

const dashed = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
/** A setting as a flag. */
export const flag = (name: string): string => `--${dashed(name)}`;
/** A setting in the environment. */
export const variable = (name: string): string => `TOKENRING_${dashed(name).replaceAll('-', '_').toUpperCase()}`;

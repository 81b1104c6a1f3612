import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { inspect, parseArgs } from 'node:util';
import { isLoopback } from '../../lib/address.js';
import { nearestName } from '../../lib/mistake.js';
import { hostOf } from '../../limits/ring/ring.js';
import { flag, PEM, SECRET, SETTINGS, variable, type Name, type Setting, type Settings } from './setting-table.js';

/**
 * A setting, or an option in code, that is unknown or not valid. The message is one line that names it, its value, and
 * what is expected.
 */
export class SettingsError extends TypeError {
  override readonly name = 'SettingsError';
}

const NAMES = Object.keys(SETTINGS) as Name[];
/**
 * Variables of the environment that are no settings of a node: the path of the settings file, and the token that
 * commands such as `tokenring allow` send.
 */
const OTHER_VARIABLES: ReadonlySet<string> = new Set(['TOKENRING_CONFIG', 'TOKENRING_TOKEN', 'TOKENRING_URL']);

/**
 * Reads the settings from flags, then the environment, then the JSON file named by `TOKENRING_CONFIG`, then defaults.
 * @throws SettingsError
 */
export function readSettings(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Settings {
  const flags = readFlags(args);
  const variables = new Map(NAMES.map((name) => [variable(name), name]));
  for (const key of Object.keys(env)) {
    if (key.startsWith('TOKENRING_') && !OTHER_VARIABLES.has(key) && !variables.has(key)) {
      throw unknown(key, [...variables.keys()]);
    }
  }
  const configPath = flags.get('config') ?? env['TOKENRING_CONFIG'];
  const file = configPath === undefined ? new Map<string, string>() : readFile(configPath);
  const values: Record<string, unknown> = {};
  for (const name of NAMES) {
    const { parse, default: fallback } = SETTINGS[name] as Setting<unknown>;
    const given: [string, string | undefined][] = [
      [flag(name), flags.get(name)],
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
    if (value === undefined) throw notValid(name, from, JSON.stringify(text));
    values[name] = value;
  }
  const settings = values as Settings;
  requireTogether(settings);
  return settings;
}

/** The types of an option. Callers without types may pass anything. */
type Option = string | number | boolean | readonly string[] | undefined;

/**
 * Reads the settings of these names from options in code: values instead of text, with the same rules.
 * @throws SettingsError
 */
export function readOptions<N extends Name>(options: object, names: readonly N[]): Pick<Settings, N> {
  for (const name of Object.keys(options)) {
    if (!names.includes(name as N)) throw new SettingsError(`${name}: there is no such option`);
  }
  const values: Record<string, unknown> = {};
  for (const name of names) {
    const { parse, default: fallback } = SETTINGS[name] as Setting<unknown>;
    const given = (options as Readonly<Record<string, Option>>)[name];
    const none = given === undefined || (Array.isArray(given) && given.length === 0);
    const value = none ? fallback : parse(String(given));
    if (!none && typeof value !== typeof given) throw notValid(name, name, inspect(given, { breakLength: Infinity }));
    values[name] = value;
  }
  return values as Pick<Settings, N>;
}

function unknown(given: string, known: readonly string[]): SettingsError {
  const nearest = nearestName(given, known);
  return new SettingsError(
    `${given}: there is no such setting${nearest === undefined ? '' : `; did you mean ${nearest}?`}`,
  );
}

function notValid(name: Name, from: string, shown: string): SettingsError {
  const value = SECRET.has(name) ? 'the value given' : shown;
  return new SettingsError(`${from}: ${value} is not valid, expected ${SETTINGS[name].expected}`);
}

/** Checks the settings that are valid, or safe, only together with others. */
function requireTogether(settings: Settings): void {
  const { peerHost, peerSecret, peerTlsRequireClientCert } = settings;
  if (peerSecret === undefined && !peerTlsRequireClientCert) {
    requireLoopback('TOKENRING_PEER_HOST', peerHost, 'TOKENRING_PEER_SECRET or TOKENRING_PEER_TLS_REQUIRE_CLIENT_CERT');
  }
  if (settings.discovery === 'dns' && settings.dnsName === undefined) {
    throw new SettingsError(
      'TOKENRING_DNS_NAME: nothing is not valid, expected name:port with TOKENRING_DISCOVERY dns',
    );
  }
  // Each worker listens to peers, and to callers, at ports of its own.
  for (const [name, port] of [
    ['peerPort', settings.peerPort],
    ['advertise', Number(settings.advertise?.slice(settings.advertise.lastIndexOf(':') + 1) ?? 0)],
    ['workerPort', typeof settings.workerPort === 'number' ? settings.workerPort : 0],
    // By default, the workers' own ports follow the public one.
    ['port', settings.workerPort === undefined && settings.workers > 1 ? settings.port : 0],
  ] as const) {
    const most = 65_536 - settings.workers - (name === 'port' ? 1 : 0);
    if (port > most) {
      throw new SettingsError(
        `${variable(name)}: port ${port} is not valid, expected at most ${most} with TOKENRING_WORKERS ${settings.workers}`,
      );
    }
  }
  requireEtcd(settings);
  for (const prefix of ['tls', 'peerTls', 'etcdTls'] as const) {
    const [cert, key, ca] = [settings[`${prefix}Cert`], settings[`${prefix}Key`], settings[`${prefix}Ca`]];
    if ((cert === undefined) !== (key === undefined)) {
      const missing = cert === undefined ? 'Cert' : 'Key';
      throw new SettingsError(
        `${variable(prefix + missing)}: nothing is not valid, expected ${PEM}: CERT and KEY go together`,
      );
    }
    if (prefix !== 'etcdTls' && settings[`${prefix}RequireClientCert`] && (cert === undefined || ca === undefined)) {
      throw new SettingsError(
        `${variable(prefix)}_REQUIRE_CLIENT_CERT: true is not valid, expected CERT, KEY and CA with it`,
      );
    }
  }
}

function requireEtcd({ discovery, etcdEndpoints, etcdUser, etcdPassword, strict }: Settings): void {
  if (discovery === 'etcd' && etcdEndpoints.length === 0) {
    throw new SettingsError(
      'TOKENRING_ETCD_ENDPOINTS: nothing is not valid, expected http://host:port with TOKENRING_DISCOVERY etcd',
    );
  }
  if (strict && discovery !== 'etcd') {
    throw new SettingsError('TOKENRING_STRICT: true is not valid, expected TOKENRING_DISCOVERY etcd with it');
  }
  if ((etcdUser === undefined) !== (etcdPassword === undefined)) {
    const missing = etcdUser === undefined ? 'USER' : 'PASSWORD';
    throw new SettingsError(`TOKENRING_ETCD_${missing}: nothing is not valid, expected USER and PASSWORD together`);
  }
}

/** @throws SettingsError when other machines could speak as peers */
export function requireLoopback(from: string, host: string, otherwise: string): void {
  if (isLoopback(host)) return;
  throw new SettingsError(`${from}: ${JSON.stringify(host)} is open to others, expected ${otherwise} with it`);
}

function listensOnAll(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/**
 * Returns the address at which callers reach the public API of the node with this id. Returns `undefined` when the
 * address is unknown: the node listens only on this machine and its peers are elsewhere, or its port is not known
 * before it has joined.
 */
export function publicUrlOf(settings: PublicSettings, id: string): string | undefined {
  const { publicUrl, host, port, tlsCert } = settings;
  if (publicUrl !== undefined) return publicUrl === 'none' ? undefined : publicUrl;
  const peerHost = hostOf(id);
  if (port === 0 || (isLoopback(host) && !isLoopback(peerHost))) return undefined;
  const address = listensOnAll(host) ? peerHost : host.includes(':') ? `[${host}]` : host;
  return `${tlsCert === undefined ? 'http' : 'https'}://${address}:${port}`;
}

type PublicSettings = Pick<Settings, 'publicUrl' | 'host' | 'port' | 'tlsCert'>;

/**
 * Returns the `host:port` at which others reach a listener. If it listens on all addresses, the host is the machine's
 * first.
 */
export function reachableAt(host: string, port: number): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const own = listensOnAll(host) ? all.find(({ internal, family }) => !internal && family === 'IPv4') : undefined;
  const address = own?.address ?? host;
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function readFlags(args: readonly string[]): Map<string, string> {
  const names = ['config', ...NAMES];
  const options = Object.fromEntries(names.map((name) => [flag(name).slice(2), { type: 'string' as const }]));
  const expanded = args.flatMap((arg) => (arg === '--bootstrap' ? [flag('bootstrapMs'), '0'] : [arg]));
  const { tokens } = parseArgs({ args: expanded, options, strict: false, tokens: true });
  for (const token of tokens) {
    if (token.kind === 'option' && !Object.hasOwn(options, token.name)) throw unknown(token.rawName, names.map(flag));
  }
  try {
    const { values } = parseArgs({ args: expanded, options, strict: true, allowPositionals: false });
    return new Map(
      names.flatMap((name) => {
        const value = values[flag(name).slice(2)];
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

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Variables that Kubernetes sets in pods beside a Service named `tokenring`. It also sets `TOKENRING_PORT` to an
 * address.
 */
const LINK = /^TOKENRING_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;
const ADDRESS = /^tcp:\/\//;

/**
 * Removes the variables that Kubernetes sets for a Service named `tokenring`.
 * @returns the rest, and the names removed
 */
export function withoutServiceLinks(env: Environment): {
  readonly own: Environment;
  readonly links: readonly string[];
} {
  const links = Object.keys(env).filter(
    (name) => LINK.test(name) || (name === 'TOKENRING_PORT' && ADDRESS.test(env[name]!)),
  );
  return { own: Object.fromEntries(Object.entries(env).filter(([name]) => !links.includes(name))), links };
}

/** The address of a Redis or Valkey. */
export interface RedisAddress {
  readonly kind: 'single' | 'cluster' | 'sentinel';
  /** The single server, some servers of the cluster, or the sentinels. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  /** Name of the primary at the sentinels. */
  readonly sentinelName: string | undefined;
  /** Prefix of all keys, so that several clusters can share a server. */
  readonly prefix: string;
}

const HOST = /^(?:([\w.-]+)|\[([\da-fA-F:.]+)\])(?::(\d{1,5}))?$/;
const PORT = 6379;
const SENTINEL_PORT = 26379;
const DEFAULT_PREFIX = 'tokenring';

/**
 * Reads `redis://[user:password@]host[:port][/db][?prefix=…]`; `rediss://` means TLS. Several hosts, separated by
 * commas, are a cluster, as is one host with `?cluster=true`. With `?sentinel=NAME` they are the sentinels of the
 * primary with that name.
 * @returns `undefined` for any other text
 */
export function parseRedisAddress(text: string): RedisAddress | undefined {
  const match = /^redis(s?):\/\/(?:([^@/?#]*)@)?([^@/?#]+)(?:\/(\d{1,3})?)?(?:\?([^#]*))?$/.exec(text);
  if (match === null) return undefined;
  const [, secure, login, hostList, db, query] = match;
  const asked = new URLSearchParams(query ?? '');
  for (const name of asked.keys()) if (!['cluster', 'sentinel', 'prefix'].includes(name)) return undefined;
  const sentinelName = asked.get('sentinel') ?? undefined;
  const prefix = asked.get('prefix') ?? DEFAULT_PREFIX;
  // A brace in the prefix would change the slot of the keys in a cluster.
  if (!/^[\w.:-]{1,100}$/.test(prefix) || sentinelName === '') return undefined;
  const cluster = asked.get('cluster');
  if (cluster !== null && (cluster !== 'true' || sentinelName !== undefined)) return undefined;
  const hosts: { host: string; port: number }[] = [];
  for (const one of hostList!.split(',')) {
    const found = HOST.exec(one);
    const port = Number(found?.[3] ?? (sentinelName === undefined ? PORT : SENTINEL_PORT));
    if (found === null || port < 1 || port > 65_535) return undefined;
    hosts.push({ host: (found[1] ?? found[2])!, port });
  }
  const [username, password] = readLogin(login);
  const kind = sentinelName !== undefined ? 'sentinel' : hosts.length > 1 || cluster === 'true' ? 'cluster' : 'single';
  // A cluster has only database 0.
  if (kind === 'cluster' && Number(db ?? 0) !== 0) return undefined;
  return { kind, hosts, tls: secure === 's', username, password, db: Number(db ?? 0), sentinelName, prefix };
}

function readLogin(login = ''): [username: string | undefined, password: string | undefined] {
  const at = login.indexOf(':');
  const [user, password] = at < 0 ? [login, ''] : [login.slice(0, at), login.slice(at + 1)];
  const decoded = (text: string): string | undefined => {
    if (text === '') return undefined;
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return [decoded(user), decoded(password)];
}

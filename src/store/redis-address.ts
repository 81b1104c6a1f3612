/** Where a Redis or Valkey is, as one text. */
export interface RedisAddress {
  readonly kind: 'single' | 'cluster' | 'sentinel';
  /** One of a single server; some of a cluster's; sentinels. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  /** Under which the sentinels know the primary. */
  readonly sentinelName: string | undefined;
  /** What all keys begin with, so that several clusters can share a server. */
  readonly prefix: string;
}

const HOST = /^(?:([\w.-]+)|\[([\da-fA-F:.]+)\])(?::(\d{1,5}))?$/;
const PORT = 6379;
const SENTINEL_PORT = 26379;
const DEFAULT_PREFIX = 'tokenring';

/**
 * `redis://[user:password@]host[:port][/db][?prefix=…]`; `rediss://` over TLS. Several hosts, separated by commas, are a cluster
 * (as is one with `?cluster=true`), or with `?sentinel=NAME` the sentinels that know the primary of that name.
 * @returns `undefined` when it is none
 */
export function parseRedisAddress(text: string): RedisAddress | undefined {
  const match = /^redis(s?):\/\/(?:([^@/?#]*)@)?([^@/?#]+)(?:\/(\d{1,3})?)?(?:\?([^#]*))?$/.exec(text);
  if (match === null) return undefined;
  const [, secure, login, hostList, db, query] = match;
  const asked = new URLSearchParams(query ?? '');
  for (const name of asked.keys()) if (!['cluster', 'sentinel', 'prefix'].includes(name)) return undefined;
  const sentinelName = asked.get('sentinel') ?? undefined;
  const prefix = asked.get('prefix') ?? DEFAULT_PREFIX;
  // A brace would say what of a key decides on its place in a cluster.
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

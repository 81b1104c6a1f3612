import type { OnUnavailable } from '../limits/request/limiter.js';
import { noSuchOption } from '../lib/mistake.js';
import { isOrigin } from '../limits/origin.js';

export interface ClientOptions {
  /** Addresses of nodes, 1 to 100, such as `http://10.0.0.1:8080`. Some of the nodes, or a balancer, are enough. */
  readonly nodes: readonly string[];
  /**
   * Ask only `nodes`, and no other address that members advertise. Nodes forward requests for clients that they do not
   * own. Default false.
   */
  readonly pinned?: boolean;
  /**
   * Bearer token, with the roles `decide` and `read` if the nodes require them. Sent to `nodes` and to members that
   * have answered.
   */
  readonly token?: string;
  /**
   * Certificates for `https:` nodes, as options of `tls.connect`. Only in Node.js; with `@tokenring/client`, it needs
   * undici. Default: those of the runtime.
   */
  readonly tls?: TlsOptions;
  /**
   * Longest time from a question to its answer, 10 to 30,000 ms. Default 2,000. When a node hangs, another node is
   * asked after 250 ms.
   */
  readonly timeoutMs?: number;
  /**
   * Decision when no node can answer. Default `throw`. Otherwise decisions have `degraded: true` and
   * `source: 'fallback'`.
   */
  readonly onUnavailable?: Exclude<OnUnavailable, 'local'>;
  /** Longest time for which a denial is remembered, 0 (never) to 3,600,000 ms. Default 1,000. */
  readonly rememberDenialsMs?: number;
  /** Clients whose denials are remembered, 1 to 1,000,000. Default 16,384. */
  readonly maxDenials?: number;
  /** Bound of questions that wait for an answer, 1 to 1,000,000. Further ones are `overloaded`. Default 10,000. */
  readonly maxWaiting?: number;
  /** Time between two requests for the members while nothing fails, 100 to 600,000 ms. Default 10,000. */
  readonly refreshMs?: number;
}

type Pem = string | Uint8Array;

/** Options of `tls.connect`. */
interface TlsOptions {
  /** Certificates of the authorities to trust, instead of those of the runtime. */
  readonly ca?: Pem | readonly Pem[];
  /** Certificate of the client, and its key. */
  readonly cert?: Pem | readonly Pem[];
  readonly key?: Pem | readonly Pem[];
  readonly passphrase?: string;
  /** The name in the certificate of every node. */
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

export interface ReadOptions extends Required<Omit<ClientOptions, 'token' | 'tls'>> {
  readonly token: string | undefined;
  readonly tls: ClientOptions['tls'] | undefined;
}

const NODES = 'a list of 1 to 100 addresses, as http://host:port or https://host:port';

/** @throws TypeError that names an option that is unknown or not valid, and what is expected */
export function readClientOptions(options: ClientOptions): ReadOptions {
  if (typeof (options as unknown) !== 'object' || (options as unknown) === null)
    throw new TypeError(`createClient: expected { nodes: ${NODES} }`);
  const unknown = new Set(Object.keys(options));
  const take = <T>(
    name: keyof ClientOptions,
    read: (value: unknown) => T | undefined,
    expected: string,
    fallback: T,
  ): T => {
    unknown.delete(name);
    const given = options[name];
    if (given === undefined) return fallback;
    const value = read(given);
    if (value === undefined) {
      const shown = name === 'token' ? 'the value given' : shorten(given);
      throw new TypeError(`${name}: ${shown} is not valid, expected ${expected}`);
    }
    return value;
  };
  const whole = (name: keyof ClientOptions, min: number, max: number, fallback: number): number => {
    const read = (value: unknown): number | undefined =>
      Number.isInteger(value) && (value as number) >= min && (value as number) <= max ? (value as number) : undefined;
    return take(name, read, `a whole number from ${min} to ${max}`, fallback);
  };
  const asObject = (value: unknown): ClientOptions['tls'] | undefined =>
    typeof value === 'object' && value !== null ? value : undefined;
  const read: ReadOptions = {
    nodes: take('nodes', readNodes, NODES, []),
    pinned: take('pinned', (value) => (typeof value === 'boolean' ? value : undefined), 'true or false', false),
    token: take<string | undefined>('token', readToken, 'printable ASCII without spaces', undefined),
    tls: take<ClientOptions['tls']>('tls', asObject, 'an object of options of tls.connect', undefined),
    timeoutMs: whole('timeoutMs', 10, 30_000, 2_000),
    onUnavailable: take('onUnavailable', readOnUnavailable, 'open, closed or throw', 'throw'),
    rememberDenialsMs: whole('rememberDenialsMs', 0, 3_600_000, 1_000),
    maxDenials: whole('maxDenials', 1, 1_000_000, 16_384),
    maxWaiting: whole('maxWaiting', 1, 1_000_000, 10_000),
    refreshMs: whole('refreshMs', 100, 600_000, 10_000),
  };
  for (const name of unknown) throw new TypeError(noSuchOption(name, Object.keys(read)));
  if (read.nodes.length === 0) throw new TypeError(`nodes: missing, expected ${NODES}`);
  return read;
}

/** Returns each origin once. */
function readNodes(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > 100) return undefined;
  const nodes = value.map((one: unknown) => (typeof one === 'string' ? one.replace(/\/$/, '') : ''));
  return nodes.every(isOrigin) ? [...new Set(nodes.map((node) => new URL(node).origin))] : undefined;
}

function readToken(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value) ? value : undefined;
}

function readOnUnavailable(value: unknown): ReadOptions['onUnavailable'] | undefined {
  return (['open', 'closed', 'throw'] as const).find((one) => one === value);
}

const MAX_SHOWN = 100;

/** Formats a value for a message. */
function shorten(value: unknown): string {
  const text =
    typeof value === 'string' ? `'${value}'` : ((JSON.stringify(value) as string | undefined) ?? typeof value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

import type { OnUnavailable } from '../limits/request/limiter.js';
import { noSuchOption, isWhole } from '../lib/mistake.js';
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

/** Options that were read. */
export interface ReadClientOptions extends Required<Omit<ClientOptions, 'token' | 'tls'>> {
  readonly token: string | undefined;
  readonly tls: ClientOptions['tls'] | undefined;
}

const NODES = 'a list of 1 to 100 addresses, as http://host:port or https://host:port';

/** @throws TypeError that names an option that is unknown or not valid, and what is expected */
export function readClientOptions(options: ClientOptions): ReadClientOptions {
  if (typeof (options as unknown) !== 'object' || (options as unknown) === null)
    throw new TypeError(`createClient: expected { nodes: ${NODES} }`);
  const take = <T>(
    name: keyof ClientOptions,
    fallback: T,
    expected: string,
    isValid: (value: unknown) => boolean,
  ): T => {
    const given = options[name];
    if (given === undefined) return fallback;
    if (isValid(given)) return given as T;
    const shown = name === 'token' ? 'the value given' : shorten(given);
    throw new TypeError(`${name}: ${shown} is not valid, expected ${expected}`);
  };
  const whole = (name: keyof ClientOptions, fallback: number, min: number, max: number): number =>
    take(name, fallback, `a whole number from ${min} to ${max}`, (value) => isWhole(value, min, max));
  const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;
  const isToken = (value: unknown): boolean => typeof value === 'string' && /^[\x21-\x7e]+$/.test(value);
  const read: ReadClientOptions = {
    nodes: take<readonly string[]>('nodes', [], NODES, (value) => originsOf(value) !== undefined),
    pinned: take('pinned', false, 'true or false', (value) => typeof value === 'boolean'),
    token: take<string | undefined>('token', undefined, 'printable ASCII without spaces', isToken),
    tls: take<ClientOptions['tls']>('tls', undefined, 'an object of options of tls.connect', isObject),
    timeoutMs: whole('timeoutMs', 2_000, 10, 30_000),
    onUnavailable: take<ReadClientOptions['onUnavailable']>(
      'onUnavailable',
      'throw',
      'open, closed or throw',
      (value) => ['open', 'closed', 'throw'].includes(value as string),
    ),
    rememberDenialsMs: whole('rememberDenialsMs', 1_000, 0, 3_600_000),
    maxDenials: whole('maxDenials', 16_384, 1, 1_000_000),
    maxWaiting: whole('maxWaiting', 10_000, 1, 1_000_000),
    refreshMs: whole('refreshMs', 10_000, 100, 600_000),
  };
  const names = Object.keys(read);
  for (const name of Object.keys(options)) if (!names.includes(name)) throw new TypeError(noSuchOption(name, names));
  if (read.nodes.length === 0) throw new TypeError(`nodes: missing, expected ${NODES}`);
  return Object.assign(read, { nodes: originsOf(read.nodes) });
}

/** Returns each origin once; `undefined` if there is none, or something else. */
function originsOf(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > 100) return undefined;
  const nodes = value.map((one: unknown) => (typeof one === 'string' ? one.replace(/\/$/, '') : ''));
  return nodes.every(isOrigin) ? [...new Set(nodes.map((node) => new URL(node).origin))] : undefined;
}

const MAX_SHOWN = 100;

/** Formats a value for a message. */
function shorten(value: unknown): string {
  const text =
    typeof value === 'string' ? `'${value}'` : ((JSON.stringify(value) as string | undefined) ?? typeof value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

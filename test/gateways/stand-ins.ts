import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

/**
 * Gateways that no package of Debian or npm has, as their documentation and source say that they ask, and what they
 * make of the answer: Traefik 3 (pkg/middlewares/auth/forward.go, headers/header.go), Envoy 1.3x
 * (ext_authz_http_impl.cc), APISIX of August 2026 (apisix/plugins/forward-auth.lua). What they do beside it is not here.
 */
export interface StandIn {
  readonly port: number;
  stop(): Promise<void>;
}

type Header = readonly [name: string, value: string];

interface Reply {
  readonly status: number;
  readonly headers: readonly Header[];
  readonly body: string;
}

const HOP_BY_HOP = ['connection', 'keep-alive', 'te', 'trailers', 'transfer-encoding', 'upgrade'];

function headersOf({ rawHeaders }: IncomingMessage): Header[] {
  return rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name, rawHeaders[i + 1]!] as const] : []));
}

const is =
  (name: string): ((header: Header) => boolean) =>
  (header) =>
    header[0].toLowerCase() === name.toLowerCase();
const without = (headers: readonly Header[], names: readonly string[]): Header[] =>
  headers.filter((header) => !names.some((name) => is(name)(header)));
const replaced = (headers: readonly Header[], name: string, value: string): Header[] => [
  ...without(headers, [name]),
  [name, value],
];

function send(port: number, method: string, path: string, headers: readonly Header[]): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, method, path, headers: headers.flat(), setHost: false }, (res) => {
      let body = '';
      res.on('data', (chunk: Buffer) => (body += chunk.toString()));
      res.on('end', () => resolve({ status: res.statusCode!, headers: headersOf(res), body }));
    });
    sent.on('error', reject).end();
  });
}

function reply(res: ServerResponse, { status, headers, body }: Reply): void {
  res.writeHead(status, without(headers, HOP_BY_HOP).flat()).end(body);
}

async function start(answer: (req: IncomingMessage, res: ServerResponse) => Promise<void>): Promise<StandIn> {
  const server = createServer((req, res) => {
    req.resume();
    void answer(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export interface TraefikConfiguration {
  /** Of the `headers` middleware; an empty value removes. */
  readonly customRequestHeaders: readonly Header[];
  /** Of `forwardAuth`; empty: all. */
  readonly authRequestHeaders: readonly string[];
  readonly address: { readonly port: number; readonly path: string };
  readonly preserveRequestMethod?: boolean;
}

/** Asks, and passes on to the service at `port`. Headers named in `Connection` are lost by the sub-request, as in its older versions. */
export function startTraefik(configuration: TraefikConfiguration, service: { port: number }): Promise<StandIn> {
  const { customRequestHeaders, authRequestHeaders, address, preserveRequestMethod = false } = configuration;
  return start(async (req, res) => {
    let headers = headersOf(req);
    for (const [name, value] of customRequestHeaders)
      headers = value === '' ? without(headers, [name]) : replaced(headers, name, value);
    const named = (req.headers.connection ?? '').split(',').map((name) => name.trim());
    let asked = without(headers, [...named, ...HOP_BY_HOP, 'host', 'content-length']);
    if (authRequestHeaders.length > 0)
      asked = asked.filter((header) => authRequestHeaders.some((name) => is(name)(header)));
    const forwarded: Header[] = [
      ['X-Forwarded-For', req.socket.remoteAddress!],
      ['X-Forwarded-Method', req.method!],
      ['X-Forwarded-Proto', 'http'],
      ['X-Forwarded-Host', req.headers.host!],
      ['X-Forwarded-Uri', req.url!],
    ];
    for (const [name, value] of forwarded) asked = replaced(asked, name, value);
    asked = [['Host', `127.0.0.1:${address.port}`], ...asked, ['Accept-Encoding', 'gzip']];
    const answer = await send(address.port, preserveRequestMethod ? req.method! : 'GET', address.path, asked);
    if (answer.status < 200 || answer.status >= 300) return reply(res, answer);
    reply(res, await send(service.port, req.method!, req.url!, without(headers, HOP_BY_HOP)));
  });
}

export interface EnvoyConfiguration {
  readonly pathPrefix: string;
  readonly port: number;
  readonly allowedHeaders?: readonly string[];
  /** `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%` is the address of the caller. */
  readonly headersToAdd: readonly Header[];
  readonly statusOnError: number;
  /** Of the answer's, beginning so, the caller gets where it is let pass. */
  readonly clientHeadersOnSuccess: string;
}

export function startEnvoy(configuration: EnvoyConfiguration, service: { port: number }): Promise<StandIn> {
  const { pathPrefix, port, allowedHeaders = [], headersToAdd, statusOnError, clientHeadersOnSuccess } = configuration;
  return start(async (req, res) => {
    // As many values as come, as one.
    const joined = new Map<string, string>();
    for (const [name, value] of headersOf(req)) {
      const before = joined.get(name.toLowerCase());
      joined.set(name.toLowerCase(), before === undefined ? value : `${before},${value}`);
    }
    const sent = ['authorization', 'host', ...allowedHeaders];
    let asked: Header[] = [['content-length', '0'], ...[...joined].filter(([name]) => sent.includes(name))];
    for (const [name, value] of headersToAdd) {
      const address = req.socket.remoteAddress!;
      asked = replaced(asked, name, value.replace('%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', address));
    }
    asked.push(
      ['x-envoy-internal', 'true'],
      ['x-forwarded-for', '192.0.2.99'],
      ['x-envoy-expected-rq-timeout-ms', '250'],
    );
    // Of an address with a host it keeps the path.
    const path = req.url!.replace(/^https?:\/\/[^/]*/, '');
    const answer = await send(port, req.method!, pathPrefix + path, asked);
    if (answer.status >= 500) return reply(res, { status: statusOnError, headers: [], body: '' });
    if (answer.status !== 200) return reply(res, answer);
    const passed = await send(service.port, req.method!, req.url!, headersOf(req));
    const added = answer.headers.filter(([name]) => name.toLowerCase().startsWith(clientHeadersOnSuccess));
    reply(res, { ...passed, headers: [...passed.headers, ...added] });
  });
}

/** Of `forward-auth`. */
export interface ApisixConfiguration {
  readonly uri: string;
  readonly request_headers?: readonly string[];
  /** `$remote_addr` is the address of the caller. */
  readonly extra_headers: Readonly<Record<string, string>>;
  readonly client_headers: readonly string[];
  readonly timeout: number;
  readonly status_on_error?: number;
  readonly allow_degradation?: boolean;
}

/** Asks with headers of its own and those of the caller that are named, which replace none of its own. */
export function startApisix(configuration: ApisixConfiguration, service: { port: number }): Promise<StandIn> {
  const { uri, request_headers: named = [], extra_headers: extra, client_headers: shown } = configuration;
  const { timeout, status_on_error: statusOnError = 403, allow_degradation: isOpen = false } = configuration;
  const { port, pathname } = new URL(uri);
  return start(async (req, res) => {
    const headers = headersOf(req);
    const asked = new Map<string, string>([
      ['X-Forwarded-Proto', 'http'],
      ['X-Forwarded-Method', req.method!],
      ['X-Forwarded-Host', req.headers.host ?? '_'],
      ['X-Forwarded-Uri', req.url!],
      ['X-Forwarded-For', req.socket.remoteAddress!],
    ]);
    for (const [name, value] of Object.entries(extra))
      asked.set(name, value.replace('$remote_addr', req.socket.remoteAddress!));
    for (const name of named) {
      const value = headers.find(is(name))?.[1];
      if (value !== undefined && !asked.has(name)) asked.set(name, value);
    }
    const all: Header[] = [['Host', `127.0.0.1:${port}`], ...asked];
    const answer = await Promise.race([
      send(Number(port), 'GET', pathname, all).catch(() => undefined),
      wait(timeout, undefined, { ref: false }),
    ]);
    if (answer === undefined && !isOpen) return reply(res, { status: statusOnError, headers: [], body: '' });
    if (answer !== undefined && answer.status >= 300)
      return reply(res, { ...answer, headers: answer.headers.filter((one) => shown.some((name) => is(name)(one))) });
    reply(res, await send(service.port, req.method!, req.url!, without(headers, HOP_BY_HOP)));
  });
}

import type { IncomingMessage } from 'node:http';
import { isLoopback } from '../../lib/address.js';
import { TokenringError } from '../../lib/error.js';

interface SiteNames {
  /** The host at which the public API listens. */
  readonly host: string;
  /** Names and addresses by which browsers and proxies reach it; `*` stands for all. */
  readonly allowedHosts: readonly string[];
  /** The origin at which callers reach it, or `none`. */
  readonly publicUrl?: string | undefined;
}

const AUTHORITY = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i;
const SETTING = 'TOKENRING_ALLOWED_HOSTS';

/**
 * Keeps pages of other sites from asking this node through the browser of someone who reaches it.
 *
 * The browser names the site of a page in `Origin`. By DNS rebinding, a page gives a name of its own the address of this
 * node, and the browser takes both for one site. Then only `Host` tells them apart. Nothing else protects a node that
 * listens on loopback, so it checks `Host` as well.
 */
export class HostGuard {
  private readonly checksHost: boolean;
  private readonly allowed: ReadonlySet<string>;
  private readonly publicUrl: URL | undefined;
  /** The last `Host` that passed. Nearly all requests carry the same one. */
  private passed: string | undefined;

  constructor({ host, allowedHosts, publicUrl }: SiteNames) {
    this.checksHost = isLoopback(host) && !allowedHosts.includes('*');
    this.allowed = new Set(allowedHosts.map((name) => siteAt('http', name)?.name ?? name));
    this.publicUrl = publicUrl === undefined || publicUrl === 'none' ? undefined : new URL(publicUrl);
  }

  /** Whether the node answers requests with this `Host`, at any port, as ports are forwarded. */
  acceptsHost(host: string): boolean {
    if (!this.checksHost || host === this.passed) return true;
    const name = siteAt('http', host)?.name;
    if (name === undefined || !this.isOwnName(name)) return false;
    this.passed = host;
    return true;
  }

  /**
   * Returns why the node refuses a request; `undefined` if it does not.
   * @param isSubrequest a gateway passes on the `Origin` of its own callers, so it says nothing
   */
  refusalOf(
    { url = '', headers }: Pick<IncomingMessage, 'url' | 'headers'>,
    isSubrequest: boolean,
  ): TokenringError | undefined {
    const { host, origin } = headers;
    // The host of a whole URL, as proxies are asked, takes the place of `Host` (RFC 9112, 3.2.2).
    const target = url.startsWith('/') || !URL.canParse(url) ? host : new URL(url).host;
    for (const named of [host, target]) if (named !== undefined && !this.acceptsHost(named)) return foreignHost();
    return origin === undefined || isSubrequest || this.isOwnOrigin(origin, host) ? undefined : foreignOrigin();
  }

  private isOwnName(name: string): boolean {
    if (isLoopback(name) || name.endsWith('.localhost')) return true;
    return this.allowed.has(name) || name === this.publicUrl?.hostname;
  }

  private isOwnOrigin(origin: string, host: string | undefined): boolean {
    const [, scheme, authority] = /^(https?):\/\/(.*)$/i.exec(origin) ?? [];
    const site = scheme === undefined ? undefined : siteAt(scheme, authority!);
    if (site === undefined) return false;
    // A proxy that ends TLS passes on the host, without the scheme.
    const asked = host === undefined ? undefined : siteAt(scheme!, host);
    return site.address === asked?.address || site.address === this.publicUrl?.host || this.allowed.has(site.name);
  }
}

/**
 * Reads `name` or `name:port`.
 * @returns the name, in lower case and without a dot at its end; and the address, without the usual port of the scheme
 */
function siteAt(scheme: string, authority: string): { readonly name: string; readonly address: string } | undefined {
  const url = `${scheme}://${authority.replace(/\.(?=:\d+$|$)/, '')}`;
  if (!AUTHORITY.test(authority) || !URL.canParse(url)) return undefined;
  const { hostname, host } = new URL(url);
  return { name: hostname, address: host };
}

function foreignHost(): TokenringError {
  return new TokenringError('foreign_host', {
    field: 'Host',
    expected: `localhost, a loopback address, the host of TOKENRING_PUBLIC_URL, or a name in ${SETTING}`,
  });
}

function foreignOrigin(): TokenringError {
  return new TokenringError('foreign_origin', {
    field: 'Origin',
    expected: `no Origin, the address of this node, TOKENRING_PUBLIC_URL, or a name in ${SETTING}`,
  });
}

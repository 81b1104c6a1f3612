import { lookup } from 'node:dns/promises';
import type { Clock, Discovery, Log } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';

interface DnsDiscoveryDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** All addresses of a name, IPv4 and IPv6; rejects when it has none. */
  readonly resolve?: (name: string) => Promise<readonly DnsAddress[]>;
}

export interface DnsAddress {
  readonly address: string;
  readonly family: number;
}

interface DnsDiscoveryOptions {
  /** An answer is not asked for again for so long. Default 2,000 ms. */
  readonly freshMs?: number;
  /** Whoever asks waits no longer for the resolver, which may take far longer to give up. Default 1,000 ms. */
  readonly timeoutMs?: number;
}

/**
 * Members behind one name, as Compose and headless Kubernetes services give them: every address is one, all at the same
 * port. While the resolver fails, the last good answer stands.
 *
 * By `getaddrinfo`, not by a query of our own, so that /etc/hosts and search domains count as they do for all else here.
 * @param nameAndPort `name:port`
 */
export function createDnsDiscovery(
  nameAndPort: string,
  { clock, log, resolve = resolveAll }: DnsDiscoveryDeps,
  { freshMs = 2_000, timeoutMs = 1_000 }: DnsDiscoveryOptions = {},
): Discovery {
  const colon = nameAndPort.lastIndexOf(':');
  const name = nameAndPort.slice(0, colon);
  const port = nameAndPort.slice(colon + 1);
  let seeds: readonly NodeId[] = [];
  let askedAtMs = -Infinity;
  let asking: Promise<void> | undefined;
  let failing = false;

  async function ask(): Promise<void> {
    try {
      const addresses = await resolve(name);
      seeds = [...new Set(addresses.flatMap((address) => toSeed(address, port)))].sort();
      failing = false;
    } catch (error) {
      // Once for each time that it begins: the name is asked for again all the time.
      if (!failing) log.warn({ name, err: error }, 'the name of the cluster does not resolve');
      failing = true;
    }
    asking = undefined;
  }

  return {
    async seeds() {
      if (asking === undefined && clock.nowMs() - askedAtMs >= freshMs) {
        askedAtMs = clock.nowMs();
        asking = ask();
      }
      if (asking !== undefined) await within(asking, timeoutMs);
      return seeds;
    },
  };
}

function toSeed({ address, family }: DnsAddress, port: string): readonly NodeId[] {
  // A link-local address with its interface behind a % has no place in a URL, nor any meaning to another node.
  if (address.includes('%')) return [];
  return [family === 6 ? `[${address}]:${port}` : `${address}:${port}`];
}

function resolveAll(name: string): Promise<readonly DnsAddress[]> {
  return lookup(name, { all: true });
}

/** Resolves with the promise, or after `timeoutMs`. */
async function within(promise: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
    timer.unref();
  });
  await Promise.race([promise, timeout]);
  clearTimeout(timer);
}

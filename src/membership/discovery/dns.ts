import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../lib/clock.js';
import type { Discovery } from '../discovery.js';
import type { Log } from '../../lib/log.js';
import type { NodeId } from '../../limits/ring/ring.js';

interface DnsDiscoveryDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Resolves a name to all its addresses, IPv4 and IPv6. Rejects if it has none. */
  readonly resolve?: (name: string) => Promise<readonly DnsAddress[]>;
}

export interface DnsAddress {
  readonly address: string;
  readonly family: number;
}

interface DnsDiscoveryOptions {
  /** Time for which an answer is reused. Default 2,000 ms. */
  readonly freshMs?: number;
  /**
   * Longest time that `seeds` waits for the resolver, which may itself take far longer to give up. Default 1,000 ms.
   */
  readonly timeoutMs?: number;
}

/**
 * Finds members behind one name, as with Compose and headless Kubernetes services. Each address is a member, all at the
 * same port. While the resolver fails, the last good answer is used.
 *
 * Resolves with `getaddrinfo` instead of DNS queries, so that /etc/hosts and search domains work as everywhere on the
 * machine.
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
      // The name is resolved again and again, so only the first failure in a row is logged.
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
      if (asking !== undefined) await Promise.race([asking, sleep(timeoutMs, undefined, { ref: false })]);
      return seeds;
    },
  };
}

function toSeed({ address, family }: DnsAddress, port: string): readonly NodeId[] {
  // A link-local address names an interface after a %. It is not valid in a URL and means nothing to another node.
  if (address.includes('%')) return [];
  return [family === 6 ? `[${address}]:${port}` : `${address}:${port}`];
}

function resolveAll(name: string): Promise<readonly DnsAddress[]> {
  return lookup(name, { all: true });
}

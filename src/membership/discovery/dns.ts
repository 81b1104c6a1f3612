import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock, Log } from '../../lib/system.js';
import type { Discovery } from '../discovery.js';
import type { NodeId } from '../../limits/ring/ring.js';

export interface DnsAddress {
  readonly address: string;
  readonly family: number;
}

/**
 * Finds members behind one name, as with Compose and headless Kubernetes services. Each address is a member, all at the
 * same port. While the resolver fails, the last good answer is used.
 *
 * Resolves with `getaddrinfo` instead of DNS queries, so that /etc/hosts and search domains work as everywhere on the
 * machine.
 */
export class DnsDiscovery implements Discovery {
  private readonly resolve: (name: string) => Promise<readonly DnsAddress[]>;
  private readonly freshMs: number;
  private readonly timeoutMs: number;
  private readonly name: string;
  private readonly port: string;
  private found: readonly NodeId[] = [];
  private askedAtMs = -Infinity;
  private asking: Promise<void> | undefined;
  private failing = false;

  /** @param nameAndPort `name:port` */
  constructor(
    nameAndPort: string,
    private readonly options: {
      readonly clock: Clock;
      readonly log: Log;
      /** Resolves a name to all its addresses, IPv4 and IPv6. Rejects if it has none. */
      readonly resolve?: (name: string) => Promise<readonly DnsAddress[]>;
      /** Time for which an answer is reused. Default 2,000 ms. */
      readonly freshMs?: number;
      /** Longest time that `seeds` waits for the resolver, which may give up far later. Default 1,000 ms. */
      readonly timeoutMs?: number;
    },
  ) {
    this.resolve = options.resolve ?? resolveAll;
    this.freshMs = options.freshMs ?? 2_000;
    this.timeoutMs = options.timeoutMs ?? 1_000;
    const colon = nameAndPort.lastIndexOf(':');
    this.name = nameAndPort.slice(0, colon);
    this.port = nameAndPort.slice(colon + 1);
  }

  async seeds(): Promise<readonly string[]> {
    if (this.asking === undefined && this.options.clock.nowMs() - this.askedAtMs >= this.freshMs) {
      this.askedAtMs = this.options.clock.nowMs();
      this.asking = this.ask();
    }
    if (this.asking !== undefined) await Promise.race([this.asking, sleep(this.timeoutMs, undefined, { ref: false })]);
    return this.found;
  }

  private async ask(): Promise<void> {
    try {
      const addresses = await this.resolve(this.name);
      this.found = [...new Set(addresses.flatMap((address) => toSeed(address, this.port)))].sort();
      this.failing = false;
    } catch (error) {
      // The name is resolved again and again, so only the first failure in a row is logged.
      if (!this.failing)
        this.options.log.warn({ name: this.name, err: error }, 'the name of the cluster does not resolve');
      this.failing = true;
    }
    this.asking = undefined;
  }
}

function toSeed({ address, family }: DnsAddress, port: string): readonly NodeId[] {
  // A link-local address names an interface after a %. It is not valid in a URL and means nothing to another node.
  if (address.includes('%')) return [];
  return [family === 6 ? `[${address}]:${port}` : `${address}:${port}`];
}

function resolveAll(name: string): Promise<readonly DnsAddress[]> {
  return lookup(name, { all: true });
}

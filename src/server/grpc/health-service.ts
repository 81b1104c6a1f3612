import { TokenringError } from '../../lib/error.js';
import { NOT_SERVING, SERVICE_UNKNOWN, SERVING } from './messages.js';

export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** Watches that are open at once. Probes need one for each balancer. */
const MAX_WATCHES = 1_000;
/** Watches of one address or IPv6 /64. */
const MAX_OF_NETWORK = 100;

/** A call of `Watch`. */
interface Watcher {
  /** The address or IPv6 /64 of the caller. */
  readonly network: string;
  readonly tell: (status: number) => void;
  /** Ends the call with an error. */
  readonly cut: (error: TokenringError) => void;
}

interface Watch extends Watcher {
  readonly service: string;
  last: number | undefined;
}

/** The state of `grpc.health.v1`, for the whole server (the empty name) and for each service. */
export class Health {
  /** The watches of each network, oldest first. */
  private readonly watches = new Map<string, Set<Watch>>();
  private total = 0;

  constructor(
    private readonly services: readonly string[],
    private readonly isServing: () => boolean,
  ) {}

  /** @returns the status of a service; `undefined` if there is no such service */
  status(service: string): number | undefined {
    if (service !== '' && !this.services.includes(service)) return undefined;
    return this.isServing() ? SERVING : NOT_SERVING;
  }

  /**
   * Tells the status of a service, now and after each change. At the bound of all watches, the network with the most
   * loses its oldest, so that nobody can hold all places.
   * @returns stops it
   * @throws TokenringError `overloaded` if this network has too many
   */
  watch(service: string, watcher: Watcher): () => void {
    const own = this.watches.get(watcher.network)?.size ?? 0;
    if (own >= MAX_OF_NETWORK) throw tooMany();
    if (this.total >= MAX_WATCHES) {
      const largest = [...this.watches.values()].reduce((a, b) => (b.size > a.size ? b : a));
      if (own >= largest.size) throw tooMany();
      const [oldest] = largest;
      this.stop(oldest!);
      oldest!.cut(tooMany());
    }
    const watch = { ...watcher, service, last: undefined };
    const ofNetwork = this.watches.get(watch.network) ?? new Set();
    this.watches.set(watch.network, ofNetwork.add(watch));
    this.total += 1;
    this.tell(watch);
    return () => this.stop(watch);
  }

  /** Tells the watches. Call this after each change of what `isServing` returns. */
  changed(): void {
    for (const ofNetwork of this.watches.values()) for (const watch of ofNetwork) this.tell(watch);
  }

  private tell(watch: Watch): void {
    const now = this.status(watch.service) ?? SERVICE_UNKNOWN;
    if (now === watch.last) return;
    watch.last = now;
    watch.tell(now);
  }

  private stop(watch: Watch): void {
    const ofNetwork = this.watches.get(watch.network);
    if (ofNetwork?.delete(watch) !== true) return;
    this.total -= 1;
    if (ofNetwork.size === 0) this.watches.delete(watch.network);
  }
}

function tooMany(): TokenringError {
  return new TokenringError('overloaded', { detail: 'too many watches are open' });
}

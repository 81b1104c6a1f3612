import { TokenringError } from '../../lib/error.js';
import { PREFIX_BYTES, type Call, type Method } from './call.js';
import { NOT_SERVING, readHealthCheckRequest, SERVICE_UNKNOWN, SERVING, writeHealthCheckResponse } from './messages.js';

export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** Watches that are open at once. Probes need one for each balancer. */
const MAX_WATCHES = 1_000;
/** Watches of one address or IPv6 /64. */
const MAX_OF_NETWORK = 100;

/** A call of `Watch`. */
interface Watch {
  readonly call: Call;
  /** The address or IPv6 /64 of the caller. */
  readonly network: string;
  readonly service: string;
  last: number | undefined;
}

/**
 * `grpc.health.v1`: the state of the whole server (the empty name) and of each service. It needs no token, as `/healthz`
 * needs none.
 */
export class HealthService {
  /** The watches of each network, oldest first. */
  private readonly watches = new Map<string, Set<Watch>>();
  private total = 0;

  constructor(
    private readonly services: readonly string[],
    private readonly isServing: () => boolean,
  ) {}

  readonly check: Method = {
    guarded: false,
    streams: false,
    answer: (message, call) => {
      const status = this.status(readHealthCheckRequest(message));
      if (status === undefined)
        throw new TokenringError('not_found', { field: 'service', expected: this.services.join(' or ') });
      sendStatus(call, status);
      return undefined;
    },
  };

  readonly watch: Method = {
    guarded: false,
    streams: true,
    answer: (message, call) => {
      const watch = { call, network: call.network, service: readHealthCheckRequest(message), last: undefined };
      this.add(watch);
      call.onEnd(() => this.remove(watch));
      return undefined;
    },
  };

  /** Tells the watches. Call this after each change of what `isServing` returns. */
  changed(): void {
    for (const ofNetwork of this.watches.values()) for (const watch of ofNetwork) this.tell(watch);
  }

  /** @returns the status of a service; `undefined` if there is no such service */
  private status(service: string): number | undefined {
    if (service !== '' && !this.services.includes(service)) return undefined;
    return this.isServing() ? SERVING : NOT_SERVING;
  }

  /**
   * Tells the status of a service, now and after each change. At the bound of all watches, the network with the most
   * loses its oldest, so that nobody can hold all places.
   * @throws TokenringError `overloaded` if this network has too many
   */
  private add(watch: Watch): void {
    const ofNetwork = this.watches.get(watch.network) ?? new Set();
    if (ofNetwork.size >= MAX_OF_NETWORK) throw tooMany();
    if (this.total >= MAX_WATCHES) {
      const largest = [...this.watches.values()].reduce((a, b) => (b.size > a.size ? b : a));
      if (ofNetwork.size >= largest.size) throw tooMany();
      const [oldest] = largest;
      this.remove(oldest!);
      oldest!.call.fail(tooMany());
    }
    this.watches.set(watch.network, ofNetwork.add(watch));
    this.total += 1;
    this.tell(watch);
  }

  private tell(watch: Watch): void {
    const now = this.status(watch.service) ?? SERVICE_UNKNOWN;
    if (now === watch.last) return;
    watch.last = now;
    sendStatus(watch.call, now);
  }

  private remove(watch: Watch): void {
    const ofNetwork = this.watches.get(watch.network);
    if (ofNetwork?.delete(watch) !== true) return;
    this.total -= 1;
    if (ofNetwork.size === 0) this.watches.delete(watch.network);
  }
}

function sendStatus(call: Call, status: number): void {
  call.send(writeHealthCheckResponse(status, PREFIX_BYTES), undefined);
}

function tooMany(): TokenringError {
  return new TokenringError('overloaded', { detail: 'too many watches are open' });
}

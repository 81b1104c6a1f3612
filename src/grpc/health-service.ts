import { NOT_SERVING, SERVICE_UNKNOWN, SERVING } from './messages.js';

export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** Watches that are open at once. Probes need one for each balancer. */
const MAX_WATCHES = 1_000;

/** The state of `grpc.health.v1`, for the whole server (the empty name) and for each service. */
export interface Health {
  /** @returns the status of a service; `undefined` if there is no such service */
  status(service: string): number | undefined;
  /**
   * Calls `listener` with the status of a service, now and after each change.
   * @returns stops the calls; `undefined` if there are too many watches
   */
  watch(service: string, listener: (status: number) => void): (() => void) | undefined;
  /** Tells the watches. Call this after each change of what `isServing` returns. */
  readonly changed: () => void;
}

export function createHealth(services: readonly string[], isServing: () => boolean): Health {
  const watches = new Set<() => void>();
  const status = (service: string): number | undefined => {
    if (service !== '' && !services.includes(service)) return undefined;
    return isServing() ? SERVING : NOT_SERVING;
  };
  return {
    status,
    watch(service, listener) {
      if (watches.size >= MAX_WATCHES) return undefined;
      let last: number | undefined;
      const tell = (): void => {
        const now = status(service) ?? SERVICE_UNKNOWN;
        if (now === last) return;
        last = now;
        listener(now);
      };
      watches.add(tell);
      tell();
      return () => watches.delete(tell);
    },
    changed() {
      for (const tell of watches) tell();
    },
  };
}

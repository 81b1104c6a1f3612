import { machineMs } from './history.js';
import { createHttpClient, type HttpClient } from './http-client.js';
import type { Got } from './protocol.js';

const POLL_INTERVAL_MS = 100;
const POLL_TIMEOUT_MS = 1_000;
const GET_TIMEOUT_MS = 5_000;

interface Target {
  readonly client: HttpClient;
  routed: boolean;
  /** When the last poll began that found it ready. */
  readyAtMs: number;
  /** Counts what was decided about it: a poll that began before says nothing any more. */
  decisions: number;
  polling: boolean;
}

/** The nodes, and which of them get requests: those that say they are ready, as a load balancer would find by asking. */
export interface Rotation {
  add(node: number, url: string): void;
  client(node: number): HttpClient;
  isRouted(node: number): boolean;
  /** When it was last asked whether it is ready, and was. */
  readyAtMs(node: number): number;
  route(node: number, routed: boolean): void;
  /** Those that get requests. */
  readonly living: readonly number[];
  get(node: number, path: string): Promise<Got>;
}

export function createRotation(): Rotation {
  const targets = new Map<number, Target>();
  let living: readonly number[] = [];

  function target(node: number): Target {
    const known = targets.get(node);
    if (known === undefined) throw new Error(`there is no node ${node}`);
    return known;
  }

  function route(node: number, routed: boolean): void {
    const one = target(node);
    one.routed = routed;
    one.decisions += 1;
    living = [...targets].filter(([, { routed }]) => routed).map(([node]) => node);
  }

  async function poll(node: number, one: Target): Promise<void> {
    if (one.polling) return;
    one.polling = true;
    const { decisions } = one;
    const askedMs = machineMs();
    const { status } = await fetchFrom(one.client, '/readyz', POLL_TIMEOUT_MS);
    one.polling = false;
    if (status === 200) one.readyAtMs = askedMs;
    if (one.decisions === decisions && one.routed !== (status === 200)) route(node, status === 200);
  }

  setInterval(() => {
    for (const [node, one] of targets) void poll(node, one);
  }, POLL_INTERVAL_MS);

  return {
    add(node, url) {
      const { hostname, port } = new URL(url);
      targets.set(node, {
        client: createHttpClient(hostname, Number(port)),
        routed: false,
        readyAtMs: 0,
        decisions: 0,
        polling: false,
      });
    },
    client: (node) => target(node).client,
    isRouted: (node) => target(node).routed,
    readyAtMs: (node) => target(node).readyAtMs,
    route,
    get living() {
      return living;
    },
    get: (node, path) => fetchFrom(target(node).client, path, GET_TIMEOUT_MS),
  };
}

function fetchFrom(client: HttpClient, path: string, timeoutMs: number): Promise<Got> {
  return new Promise((resolve) => {
    client.request(`GET ${path}`, '', timeoutMs, (result) => {
      const atMs = machineMs();
      resolve('error' in result ? { status: 0, body: '', date: undefined, atMs } : { ...result, atMs });
    });
  });
}

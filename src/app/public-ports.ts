import type { Protocol } from './group/protocol.js';
import { variable } from './settings/setting-table.js';
import type { Settings } from './settings/setting-table.js';

/** The public ports: of the HTTP API, and of Envoy's rate limit service and the Redis protocol where they are on. */
export type Ports = Pick<Settings, 'port' | 'grpcPort' | 'respPort'>;

const SETTINGS_OF: Readonly<Record<Protocol, keyof Ports>> = { http: 'port', grpc: 'grpcPort', resp: 'respPort' };
const PROTOCOLS = Object.keys(SETTINGS_OF) as Protocol[];

/**
 * Opens the public ports that are on, one after the other.
 * @param open opens one port; `setting` names it in error messages. Resolves with its number, also for port 0.
 * @returns the same ports with their numbers
 */
export async function openEach(
  ports: Ports,
  open: (protocol: Protocol, at: { readonly port: number; readonly setting: string }) => Promise<number>,
): Promise<Ports> {
  const opened = { port: 0, grpcPort: undefined, respPort: undefined } as { -readonly [P in keyof Ports]: Ports[P] };
  for (const protocol of PROTOCOLS) {
    const name = SETTINGS_OF[protocol];
    const port = ports[name];
    if (port !== undefined) opened[name] = await open(protocol, { port, setting: variable(name) });
  }
  return opened;
}

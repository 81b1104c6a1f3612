import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { pino } from 'pino';
import type { Logger } from 'pino';
import { createClusterNode } from './cluster/node.js';
import { createApi } from './http/api.js';
import { createCounters } from './http/counters.js';
import { createDecisionHandlers } from './http/decisions.js';
import { createMetrics } from './http/metrics.js';
import { createPublicServer } from './http/server.js';
import type { Settings } from './settings.js';
import { systemClock, systemTimers } from './system.js';
import { VERSION } from './version.js';

/** How long a stopping node goes on answering, so that balancers see that it is not ready; and how long it may take in all. */
const DRAIN_NOTICE_MS = 500;
const DRAIN_GRACE_MS = 10_000;

const NO_PEERS = { sent: new Map(), received: new Map(), refused: new Map() };
const nobody = { send: () => Promise.resolve({ kind: 'refused' as const }) };

export interface RunningNode {
  /** Where the public API listens. */
  readonly port: number;
  readonly log: Logger;
  /** Stops as SIGTERM does: not ready, answer what is in flight, close. */
  stop(): Promise<void>;
}

/** Runs one node by its settings until `stop` is called. */
export async function startNode(settings: Settings): Promise<RunningNode> {
  const log = pino({ level: settings.logLevel, base: { node: settings.advertise } });
  const node = createClusterNode(
    {
      clock: systemClock,
      timers: systemTimers,
      transport: nobody,
      discovery: { seeds: () => Promise.resolve([]) },
      log,
    },
    {
      self: settings.advertise,
      version: VERSION,
      maxClients: settings.maxClients,
      replicas: 1,
      replicationIntervalMs: 50,
      suspectAfterMs: 1000,
      onUnavailable: 'local',
    },
  );
  const { limiter } = node;
  const counters = createCounters();
  let ready = false;
  const decisions = createDecisionHandlers(
    { limiter, counters, elapsedMs: () => performance.now() },
    { deniedStatus: settings.deniedStatus },
  );
  const api = createApi(
    {
      cluster: node,
      decisions,
      counters,
      metrics: createMetrics({ counters, cluster: node, peers: NO_PEERS }),
      isReady: () => ready,
      log,
    },
    { adminToken: settings.adminToken, version: VERSION },
  );
  const publicServer = createPublicServer({ decisions, api });
  const port = await listen(publicServer.server, settings.port, settings.host);
  await node.start();
  ready = true;
  log.info({ host: settings.host, port }, 'tokenring ready');
  return {
    port,
    log,
    async stop() {
      ready = false;
      log.info('stopping');
      await publicServer.drain(DRAIN_NOTICE_MS, DRAIN_GRACE_MS);
      node.close();
      log.info('stopped');
    },
  };
}

function listen(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

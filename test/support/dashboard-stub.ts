import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import type { NodeReport } from '../../src/protocol/messages.js';
import { DURATION_BOUNDS, SOURCES } from '../../src/limits/decide/decision.js';
import type { ClusterDescription } from '../../src/server/http/api/cluster-view.js';
import { systemClock, systemTimers } from '../../src/lib/system.js';
import { Turns } from '../../src/lib/turns.js';
import { pageHandlers } from '../../src/server/http/pages.js';

/** What a node of the stub answers; nothing of it needs to be possible. */
export interface Stubbed {
  readonly members: ClusterDescription['members'];
  readonly policies: Readonly<Record<string, object>>;
  /** A client, and the text of an event. */
  readonly clientId: string;
}

/** Serves the real page with an API that knows what it is told, for views that no small cluster has. */
export async function startStub(stubbed: Stubbed): Promise<{ url: string; close: () => void }> {
  const { members, policies, clientId } = stubbed;
  const app = express();
  const turns = new Turns({ timers: systemTimers, spent: () => systemClock.nowMs(), perTurn: 4 });
  for (const [path, get] of pageHandlers(turns)) app.get(path, get);
  const cluster = { self: members[0]!.id, ringChecksum: 'b1946ac92492d234', members };
  const place = { clientId, owner: members[0]!.id, successors: members.slice(1).map(({ id }) => id), point: 0.3 };
  const [policy] = Object.keys(policies);
  const bucket = { policy, algorithm: 'token-bucket', windowMs: 60_000, limit: 600, remaining: 12, resetMs: 41_500 };
  const top = {
    clients: [1, 2, 3].map((i) => ({
      clientId: clientId.slice(i),
      policy,
      count: 9_000 / i,
      error: i,
      source: { node: 0, sdk: 9_000 / i },
    })),
  };
  const change = {
    atMs: 1_800_000_000_000,
    who: { token: clientId, address: '127.0.0.1' },
    what: 'policies changed',
    target: clientId,
    before: null,
    after: { [`policy ${policy}`]: policies[policy!] },
  };
  app.get('/v1/cluster', (_req, res) => void res.json(cluster));
  app.get('/v1/cluster/owner', (_req, res) => void res.json(place));
  app.get('/v1/clients/:id', (_req, res) => void res.json({ clientId, owner: place.owner, buckets: [bucket] }));
  app.get('/v1/policies', (_req, res) => void res.json({ policies, version: 1 }));
  app.get('/v1/policies/:name', (req, res) => void res.set('ETag', '"1-x"').json(policies[req.params.name]));
  app.get('/v1/audit', (_req, res) => void res.json({ changes: [change] }));
  app.get('/v1/top', (_req, res) => void res.json({ ...top, missing: [] }));
  app.get('/v1/events', (_req, res) => {
    const send = (event: string, data: object): void =>
      void res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    res.type('text/event-stream');
    send('event', { id: 1, atMs: 1_800_000_000_000, level: 'warn', text: clientId });
    let seconds = 100;
    const sample = (): void => {
      seconds += 1;
      send('sample', { cluster, members: members.map(({ id }, i) => ({ id, stats: reportOf(seconds, i) })) });
    };
    sample();
    const timer = setInterval(sample, 200);
    res.once('close', () => clearInterval(timer));
  });
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

/** Counters of a member that is so old. Rates wave, so that charts show something. */
function reportOf(seconds: number, i: number): NodeReport {
  const counted = (perSecond: number): number =>
    Math.round(perSecond * seconds + 10 * perSecond * Math.sin(seconds / 10 + i));
  const bySource = (perSecond: number): NodeReport['allowed'] =>
    Object.fromEntries(SOURCES.map((source, n) => [source, counted(perSecond / (n + 1))])) as NodeReport['allowed'];
  return {
    allowed: bySource(900),
    denied: bySource(120),
    problems: 0,
    durations: Array.from({ length: DURATION_BOUNDS.length + 1 }, (_, n) => counted(n < 8 ? 400 / (n + 1) ** 2 : 0)),
    busyMs: seconds * 320,
    uptimeMs: seconds * 1_000,
    memoryBytes: (180 + i) * 2 ** 20,
    memoryBudgetBytes: 512 * 2 ** 20,
    clients: 40_000 + 37 * i,
    replicationLagMs: 20 + 10 * Math.sin(seconds / 4 + i),
    forwardsWaiting: 0,
  };
}

import { clientId } from '../load/clients.js';
import { askInTurns, CONNECTIONS } from './generator.js';
import { atLeast, count, type Bench, type Goal } from './goal.js';
import { GENERATOR_CORE, SERVER_CORE } from './machine.js';
import { median, spread } from './median.js';
import { startBareServer, startNode, type ServerProcess } from './processes.js';
import { measureQuietly } from './quiet.js';

const HOT_CLIENTS = 8;
const GENEROUS = 1_000_000_000;
const LEAST = 0.88;

/**
 * A node that decides for clients of another one: with leased tokens, or by denials that it remembers. It has a core for itself;
 * the owner, which hears of it a few times a second, shares that of the generator.
 */
export const lease: Bench = async ({ dist, quick, progress }) => {
  const owner = await startNode(GENERATOR_CORE, dist, ['--peer-port', String(OWNER_PORT)]);
  const entry = await startNode(SERVER_CORE, dist, ['--peers', `127.0.0.1:${OWNER_PORT}`, '--denied-status', '200']);
  const bare = await startBareServer(SERVER_CORE, entry);
  const clients = await clientsOf(`127.0.0.1:${OWNER_PORT}`, entry);
  const ofBare = { server: bare, limit: 100, batch: 1, clients };
  const goals: Goal[] = [];
  for (const [what, limit, source] of [
    ['leased tokens', GENEROUS, 'lease'],
    ['remembered denials', 1, 'deny-cache'],
  ] as const) {
    const ours = { server: entry, limit, batch: 1, clients };
    progress(`${what}: warm-up`);
    await askInTurns(5, [ours, ofBare]);
    const before = await decisionsOf(entry);
    const pairs = await measureQuietly(quick ? 5 : 9, async (turn) => {
      progress(`${what}: pair ${turn + 1}`);
      const [our, bares] = await askInTurns(2, [ours, ofBare]);
      return { ours: our!, bares: bares! };
    });
    const after = await decisionsOf(entry);
    const decided = [...after].map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const);
    const all = decided.reduce((sum, [, value]) => sum + value, 0);
    const here = decided.find(([name]) => name === source)?.[1] ?? 0;
    const rates = pairs.map((pair) => pair.ours.requestsPerSecond / pair.bares.requestsPerSecond);
    const perSecond = (side: 'ours' | 'bares') => count(median(pairs.map((pair) => pair[side].requestsPerSecond)));
    const share = `${((100 * here) / all).toFixed(1)}% decided so`;
    goals.push({
      name: source,
      what: `${what} of ${HOT_CLIENTS} clients of another node, ${CONNECTIONS} connections: requests/s to those of bare node:http`,
      mustReach: `>= ${LEAST}`,
      measured: `${spread(rates)}; ${perSecond('ours')} to ${perSecond('bares')}; ${share}`,
      reached: atLeast(LEAST, median(rates)),
    });
  }
  await Promise.all([owner, entry, bare].map((server) => server.stop()));
  return goals;
};

/** Outside of the range that systems give away by themselves. */
const OWNER_PORT = 19_080;

/** The first clients that this member owns. */
async function clientsOf(member: string, { port }: ServerProcess): Promise<number[]> {
  const owned: number[] = [];
  for (let i = 0; owned.length < HOT_CLIENTS; i += 1) {
    const answer = await fetch(`http://127.0.0.1:${port}/v1/cluster/owner?clientId=${clientId(i)}`);
    const { owner } = (await answer.json()) as { owner: string };
    if (owner === member) owned.push(i);
  }
  return owned;
}

/** Decisions so far, by source. */
async function decisionsOf({ port }: ServerProcess): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const bySource = new Map<string, number>();
  for (const [, source, value] of text.matchAll(/^tokenring_decisions_total\{.*source="([a-z-]+)"\} (\d+)$/gm))
    bySource.set(source!, (bySource.get(source!) ?? 0) + Number(value));
  return bySource;
}

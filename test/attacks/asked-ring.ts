import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { startNode } from '../bench/processes.js';
import { freePort, freePorts } from '../support/ports.js';

const NODES = 3;
/** A decision that takes longer is lost for its caller. */
const PATIENCE_MS = 2_000;

interface Asking {
  readonly asked: number;
  readonly answered: number;
  /** Answers that the owner had no part in. */
  readonly fallbacks: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Different rings that the nodes saw meanwhile. */
  readonly rings: number;
}

export interface AskedRing {
  /** The ports of the node that is attacked. */
  readonly port: number;
  readonly respPort: number;
  readonly grpcPort: number;
  /** Asks all nodes in turn for decisions, evenly for so long. */
  ask(perSecond: number, durationMs: number): Promise<Asking>;
  /** Resolves when all nodes see the same ring of all. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** Three nodes on one core, each a process. The first also speaks RESP and gRPC. */
export async function startAskedRing(core: number, dist: string): Promise<AskedRing> {
  const peerPorts = await freePorts(NODES);
  const [respPort, grpcPort] = [await freePort(), await freePort()];
  const peers = peerPorts.map((port) => `127.0.0.1:${port}`).join(',');
  const nodes = await Promise.all(
    peerPorts.map((port, i) => {
      const more = i === 0 ? ['--resp-port', String(respPort), '--grpc-port', String(grpcPort)] : [];
      const settings = ['--peers', peers, '--policies', 'none', '--audit-log', '/dev/null', ...more];
      return startNode(core, dist, ['--peer-port', String(port), ...settings]);
    }),
  );
  const agent = new Agent({ connections: 64 });
  let asked = 0;

  async function ringOf(port: number): Promise<string | undefined> {
    try {
      const { body } = await request(`http://127.0.0.1:${port}/v1/cluster`, { dispatcher: agent });
      const { ringChecksum, members } = (await body.json()) as { ringChecksum?: string; members?: { state: string }[] };
      if (ringChecksum === undefined) return undefined;
      return `${ringChecksum} ${members!.filter(({ state }) => state === 'active').length}`;
    } catch {
      return undefined;
    }
  }

  /** The rings that the nodes see. The node under attack may refuse to say, so the others are enough. */
  async function rings(): Promise<string[]> {
    const seen = await Promise.all(nodes.map(({ port }) => ringOf(port)));
    return [...new Set(seen.filter((one) => one !== undefined))];
  }

  async function decide(
    to: number,
    into: { latenciesMs: number[]; answered: number; fallbacks: number },
  ): Promise<void> {
    const startMs = performance.now();
    try {
      const { statusCode, body } = await request(`http://127.0.0.1:${nodes[to]!.port}/v1/allow`, {
        method: 'POST',
        dispatcher: agent,
        headersTimeout: PATIENCE_MS,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ clientId: `client-${asked % 1_000}`, limit: 1_000_000, window: '1d' }),
      });
      const { source } = (await body.json()) as { source?: string };
      if (statusCode === 200) into.answered += 1;
      if (source === 'fallback') into.fallbacks += 1;
    } catch {
      // It counts as asked.
    }
    into.latenciesMs.push(performance.now() - startMs);
  }

  return {
    port: nodes[0]!.port,
    respPort,
    grpcPort,
    async ask(perSecond, durationMs) {
      const into = { latenciesMs: [] as number[], answered: 0, fallbacks: 0 };
      const seen = new Set<string>(await rings());
      const looking = setInterval(() => void rings().then((all) => all.forEach((one) => seen.add(one))), 500);
      const under: Promise<void>[] = [];
      const startMs = performance.now();
      for (let i = 0; performance.now() - startMs < durationMs; i += 1) {
        asked += 1;
        under.push(decide(asked % NODES, into));
        await sleep(Math.max(0, startMs + ((i + 1) * 1_000) / perSecond - performance.now()));
      }
      await Promise.all(under);
      clearInterval(looking);
      for (const one of await rings()) seen.add(one);
      const { latenciesMs, answered, fallbacks } = into;
      latenciesMs.sort((a, b) => a - b);
      const [p50Ms, p99Ms] = [0.5, 0.99].map((part) => latenciesMs[Math.ceil(part * latenciesMs.length) - 1]!);
      return { asked: latenciesMs.length, answered, fallbacks, p50Ms: p50Ms!, p99Ms: p99Ms!, rings: seen.size };
    },
    async settled() {
      for (;;) {
        const seen = await rings();
        if (seen.length === 1 && seen[0]!.endsWith(` ${NODES}`)) return;
        await sleep(200);
      }
    },
    async stop() {
      await agent.destroy();
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

import { setTimeout as sleep } from 'node:timers/promises';
import { figuresOfOverload } from '../checked.js';
import { createClients, LOAD_CLIENTS } from '../clients.js';
import { createLoopback, type Network } from '../network.js';
import { PER_SECOND } from '../pace.js';
import { start } from '../processes.js';
import type { Row } from '../row.js';
import { withStage, type RunOptions, type Stage, type StageResult } from '../stage.js';
import { commonNotes, failures, figure, overLimit } from '../verdict.js';

/** A batch holds at most 1,000 requests. */
const BATCHES = 20;
const BATCH = LOAD_CLIENTS;
const BETWEEN_MS = 1_000;
const BUSY_LOOPS = 4;
/** Enough to keep a core busy, few enough that none waits for as long as a client does. */
const IN_FLIGHT = 64;
const MANY_NODES = 8;
/** About what one core does, so that long limits are used up in the middle of the run. */
const SATURATED_PER_SECOND = 6_000;

/** Batches that come all at once take a node long. It must not take itself for frozen, and others not take it for dead. */
export const burst: Row = {
  name: 'burst',
  fault: '20 batches of 1,000 at once, a second apart',
  needs: ['loopback'],
  run(options) {
    const network = createLoopback(options.nodes);
    const perSecond = PER_SECOND / 2;
    return underOverload(options, 'burst', network, options.nodes, perSecond + BATCHES * BATCH, async (stage) => {
      const { load, cluster } = stage;
      const asking = Array.from({ length: BATCH }, (_, i) => i);
      await load.call('pace', { perSecond });
      const ends = Date.now() + options.pace.overloadMs / 3;
      for (let i = 0; Date.now() < ends; i += 1) {
        await load.call('batches', { clients: asking, times: BATCHES, node: i % cluster.nodes.length });
        await sleep(BETWEEN_MS);
      }
    });
  },
};

/** Four programs that never wait share the two cores with the nodes and the load. */
export const starved: Row = {
  name: 'starved',
  fault: 'four busy loops beside the nodes',
  needs: ['loopback', 'taskset'],
  run(options) {
    const network = createLoopback(options.nodes, { nodes: pinnedTo('0,1'), load: pinnedTo('0,1') });
    return underOverload(options, 'starved', network, options.nodes, PER_SECOND, async ({ load }) => {
      await load.call('pace', { perSecond: PER_SECOND });
      const loops = Array.from({ length: BUSY_LOOPS }, () =>
        start([...pinnedTo('0,1'), process.execPath, '-e', 'for (;;);'], { stdio: 'ignore' }),
      );
      await sleep(options.pace.overloadMs);
      await Promise.all(loops.map((loop) => loop.kill()));
    });
  },
};

/** Eight nodes share one core, which has more to do than it can. */
export const saturated: Row = {
  name: 'saturated',
  fault: 'eight nodes at saturation on one core',
  needs: ['loopback', 'taskset'],
  run(options) {
    const network = createLoopback(MANY_NODES, { nodes: pinnedTo('0'), load: pinnedTo('1') });
    return underOverload(options, 'saturated', network, MANY_NODES, SATURATED_PER_SECOND, async ({ load }) => {
      await load.call('saturate', { inFlight: IN_FLIGHT });
      await sleep(options.pace.overloadMs);
    });
  },
};

function pinnedTo(cores: string): readonly string[] {
  return ['taskset', '-c', cores];
}

/**
 * Runs a load that is more than the machine can do. No node is away, so no request fails, none is admitted over the limit,
 * and the ring stays as it is. A node that the machine kept from running is no excuse: it asks the others, and goes on.
 */
function underOverload(
  options: RunOptions,
  name: string,
  network: Network,
  nodes: number,
  perSecond: number,
  play: (stage: Stage) => Promise<void>,
): Promise<StageResult> {
  const spanMs = options.pace.overloadMs + 2 * options.pace.aroundMs;
  const absent = Array.from({ length: nodes }, (_, i) => i);
  const clients = createClients(perSecond, options.pace.overloadMs);
  const stageOptions = { name, network, nodes, spanMs, absent, clients, judge: figuresOfOverload };
  return withStage(options, stageOptions, async (stage) => {
    const { cluster } = stage;
    const settledAt = cluster.log.length;
    await play(stage);
    const history = await stage.finish();
    const since = cluster.log.slice(settledAt);
    const times = (start: string): number => since.filter(({ msg }) => msg.startsWith(start)).length;
    const changes = times('the ring changed');
    return {
      failed: failures(history.asked),
      over: overLimit(history.asked, clients),
      back: undefined,
      also: [figure('changes of the ring that nodes saw', changes, '0', changes === 0)],
      notes: [
        ...commonNotes(history),
        `pauses that no other node noticed: ${times('paused; no other')}; rejoins after a pause: ${times('paused; another')}`,
        latencies(history.asked.map(({ sentMs, receivedMs }) => receivedMs - sentMs)),
      ],
    };
  });
}

function latencies(allMs: number[]): string {
  allMs.sort((a, b) => a - b);
  const at = (part: number): number => Math.round(allMs[Math.min(allMs.length - 1, Math.floor(part * allMs.length))]!);
  return `answers took ${at(0.5)} ms (median), ${at(0.99)} ms (p99), ${at(1)} ms (longest)`;
}

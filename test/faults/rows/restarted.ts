import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startValkey } from '../../support/valkey.js';
import { machineMs } from '../history.js';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND } from '../pace.js';
import { withStage } from '../stage.js';
import type { RunOptions, Stage, StageResult } from '../stage.js';
import { admittedLately, commonNotes, failures, figure, loadHeld, overLimit } from '../verdict.js';
import { FLUSH_MS } from './flush.js';

/** As the nodes are set. */
const STORE_INTERVAL_MS = 200;
/** Between two looks at how long a change waits for the store. */
const LOOK_MS = 20;
/** Starting again, and load to see what was forgotten. */
const BACK_MS = 8_000;

/** Each node with a file of its own, as on machines of their own. */
export const restartedLmdb: Row = {
  name: 'restarted-lmdb',
  fault: 'all nodes killed at once (-KILL) and started again, STORE=lmdb',
  needs: ['loopback'],
  run: (options) =>
    restarted('restarted-lmdb', options, (index) => `lmdb:${join(options.folder, `store-${options.seed}-${index}`)}`),
};

export const restartedRedis: Row = {
  name: 'restarted-redis',
  fault: 'all nodes killed at once (-KILL) and started again, STORE=redis (Valkey)',
  needs: ['loopback', 'valkey'],
  async run(options) {
    const valkey = await startValkey();
    try {
      return await restarted('restarted-redis', options, () => valkey.url);
    } finally {
      await valkey.remove();
    }
  },
};

async function restarted(name: string, options: RunOptions, storeOf: (index: number) => string): Promise<StageResult> {
  const { nodes, pace } = options;
  const { aroundMs } = pace;
  const env = (index: number): NodeJS.ProcessEnv => ({ TOKENRING_STORE: storeOf(index) });
  const stageOptions = { name, network: createLoopback(nodes), nodes, env, spanMs: 3 * aroundMs + BACK_MS };
  return withStage(options, stageOptions, async (stage) => {
    const { cluster, load, clients, faults } = stage;
    const all = cluster.nodes.map(({ index }) => index);
    await load.call('pace', { perSecond: PER_SECOND });
    const writeAgeMs = await measureWriteAge(stage, 2 * aroundMs);
    const locks = await lockNotes(stage);
    const before = [...cluster.nodes];
    const to = before.map(({ index, pid }) => ({ node: index, pid }));
    const killedMs = await load.call('signal', { signal: 'SIGKILL', to, routing: 'off' });
    await load.call('pace', { perSecond: 0 });
    await Promise.all(before.map(({ exited }) => exited));
    // Each gets requests from the moment that it is ready, however far the others are.
    await Promise.all(
      all.map(async (index) => {
        const { pid, ready } = stage.start(index);
        await ready;
        await load.call('signal', { signal: 'SIGCONT', to: [{ node: index, pid }], routing: 'on' });
        await load.call('pace', { perSecond: PER_SECOND });
      }),
    );
    const backMs = machineMs();
    faults.push({ kind: 'restart', writeAgeMs, fromMs: killedMs, toMs: backMs });
    await stage.settled(all);
    await sleep(aroundMs);
    const history = await stage.finish();
    const { asked } = history;
    const ids = new Set(cluster.nodes.map(({ id }) => id));
    const lately = admittedLately(asked, ids, killedMs, writeAgeMs);
    const admitted = asked.filter(({ allowed, receivedMs }) => allowed === true && receivedMs <= killedMs).length;
    return {
      failed: failures(asked, ({ sentMs, receivedMs }) => sentMs <= killedMs && receivedMs >= killedMs),
      over: overLimit(asked, clients, lately),
      also: [
        loadHeld(history),
        {
          ...figure('decisions admitted before, which the store is to remember', admitted, '> 1000', admitted > 1_000),
          timing: true,
        },
      ],
      notes: [
        ...commonNotes(history),
        `the last ${Math.round(writeAgeMs)} ms may be admitted again; all nodes were back after ${Math.round(backMs - killedMs)} ms`,
        ...locks,
      ],
    };
  });
}

/**
 * How old the oldest change gets before it is in the store, as the nodes say while they are watched. It may get older between two looks
 * by as much as lies between them.
 */
async function measureWriteAge({ load, cluster }: Stage, forMs: number): Promise<number> {
  let ageMs = STORE_INTERVAL_MS + FLUSH_MS;
  let lookedMs = machineMs();
  for (const untilMs = lookedMs + forMs; machineMs() < untilMs; await sleep(LOOK_MS)) {
    const bodies = await Promise.all(cluster.nodes.map(({ index }) => load.get(index, '/metrics')));
    const betweenMs = machineMs() - lookedMs;
    lookedMs += betweenMs;
    for (const { body } of bodies) {
      const seconds = /^tokenring_store_lag_seconds (\S+)$/m.exec(body)?.[1];
      if (seconds === undefined) throw new Error('tokenring_store_lag_seconds is not among the metrics');
      ageMs = Math.max(ageMs, Number(seconds) * 1_000 + betweenMs);
    }
  }
  return ageMs;
}

/** How often the nodes were in each other's way, where they share a store. */
async function lockNotes({ load, cluster }: Stage): Promise<string[]> {
  const bodies = await Promise.all(cluster.nodes.map(({ index }) => load.get(index, '/metrics')));
  const sum = (name: string): number =>
    bodies.reduce((total, { body }) => {
      const line = body.split('\n').find((one) => one.startsWith(`${name} `));
      return total + Number(line?.slice(name.length) ?? 0);
    }, 0);
  const acquired = sum('tokenring_store_lock_total{event="acquired"}');
  if (acquired === 0) return [];
  const contended = sum('tokenring_store_lock_total{event="contended"}');
  const lost = sum('tokenring_store_lock_total{event="lost"}');
  const heldMs = (sum('tokenring_store_lock_held_seconds_total') / acquired) * 1_000;
  return [`locks: ${acquired} acquired, held for ${heldMs.toFixed(1)} ms each, ${contended} contended, ${lost} lost`];
}

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startValkey } from '../../support/valkey.js';
import { machineMs } from '../history.js';
import { createLoopback } from '../network.js';
import type { Row } from '../row.js';
import { PER_SECOND, UNSUSPECTED } from '../pace.js';
import { BusyError, withStage, type RunOptions, type Stage, type StageResult } from '../stage.js';
import { admittedLately, commonNotes, failures, figure, loadHeld, overLimit } from '../verdict.js';

/** What a node says that does not wait any longer for a store, or for the stores of others, and begins without. */
const BEGINS_WITHOUT = ['starting before the store is read', 'deciding without the missing peers'];
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
  const spanMs = 3 * aroundMs + BACK_MS;
  const stageOptions = { name, network: createLoopback(nodes), nodes, settings: UNSUSPECTED, env, spanMs };
  return withStage(options, stageOptions, async (stage) => {
    const { cluster, load, clients, faults } = stage;
    const all = cluster.nodes.map(({ index }) => index);
    await load.call('pace', { perSecond: PER_SECOND });
    const watch = watchStore(stage);
    await sleep(2 * aroundMs);
    const locks = await lockNotes(stage);
    const before = [...cluster.nodes];
    const to = before.map(({ index, pid }) => ({ node: index, pid }));
    const killedMs = await load.call('signal', { signal: 'SIGKILL', to, routing: 'off' });
    const writeAgeMs = killedMs - (await watch.end());
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
    const without = cluster.log.find(({ msg }) => BEGINS_WITHOUT.some((begins) => msg.startsWith(begins)));
    if (without !== undefined) throw new BusyError(`node ${without.index} ${without.msg}`);
    await sleep(aroundMs);
    const history = await stage.finish();
    const { asked } = history;
    const ids = new Set(cluster.nodes.map(({ id }) => id));
    const lately = admittedLately(asked, ids, killedMs, writeAgeMs);
    const remembered = asked.filter(
      ({ allowed, receivedMs }) => allowed === true && receivedMs <= killedMs - writeAgeMs,
    ).length;
    return {
      failed: failures(asked, ({ sentMs, receivedMs }) => sentMs <= killedMs && receivedMs >= killedMs),
      over: overLimit(asked, clients, lately),
      also: [
        loadHeld(history),
        {
          ...figure('decisions that the store is to remember', remembered, '> 500', remembered > 500),
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

interface StoreWatch {
  /** Ends it. @returns machine ms: all that any node decided until then is in the store, as the nodes themselves said last */
  end(): Promise<number>;
}

/**
 * Asks the nodes how old the oldest change is that is not in the store, until it is ended. What is stored stays so: however long an answer
 * takes, or fails to come, what the last one said holds. Of how long anything takes nothing is assumed.
 */
function watchStore({ load, cluster }: Stage): StoreWatch {
  const storedUntilMs = cluster.nodes.map(() => -Infinity);
  let ended = false;

  async function look(index: number): Promise<void> {
    // The answer is about a moment after this.
    const sentMs = machineMs();
    const { status, body } = await load.get(index, '/metrics');
    if (status !== 200) return;
    const seconds = /^tokenring_store_lag_seconds (\S+)$/m.exec(body)?.[1];
    if (seconds === undefined) throw new Error('tokenring_store_lag_seconds is not among the metrics');
    storedUntilMs[index] = Math.max(storedUntilMs[index]!, sentMs - Number(seconds) * 1_000);
  }

  const looking = Promise.all(
    cluster.nodes.map(async ({ index }) => {
      for (; !ended; await sleep(LOOK_MS)) await look(index);
    }),
  );
  looking.catch(() => undefined);
  return {
    async end() {
      ended = true;
      await looking;
      return Math.min(...storedUntilMs);
    },
  };
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

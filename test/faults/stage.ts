import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClusterDescription } from '../../src/server/http/api/cluster-view.js';
import { createClients, LOAD_CLIENTS, type AskedClient } from './clients.js';
import { createCluster, type Cluster, type NodeProcess } from './cluster.js';
import type { Fault } from '../sim/history.js';
import { checkedFigures, type Checked } from './checked.js';
import { machineMs, type History } from './history.js';
import { PER_SECOND, SUSPECT_AFTER_MS } from './pace.js';
import { takeStatements } from './statements.js';
import { startLoad, type Load } from './load.js';
import type { Network } from './network.js';
import type { Figure, RowResult } from './verdict.js';

/** How long what lasts. */
export interface Pace {
  /** Load before and after a fault, and between two. */
  readonly aroundMs: number;
  readonly frozenMs: number;
  readonly cutMs: number;
  readonly lossyMs: number;
  /** Of a load beyond what the machine can do. */
  readonly overloadMs: number;
}

/** What a row is run with. */
export interface RunOptions {
  readonly nodes: number;
  readonly pace: Pace;
  /** Folder with the built program. */
  readonly dist: string;
  /** More settings of the nodes, as flags: to see that a row notices what they break. */
  readonly settings: readonly string[];
  readonly seed: number;
  /** For logs and the history: a row makes a folder of its own in it. */
  readonly folder: string;
}

export interface Ownership {
  readonly owner: string;
  readonly successors: readonly string[];
}

export interface StageResult extends RowResult {
  /** How often a node was away that was not to be. */
  readonly stalls: number;
}

/** A running cluster with load on it. */
export interface Stage {
  readonly network: Network;
  readonly cluster: Cluster;
  readonly load: Load;
  readonly clients: readonly AskedClient[];
  readonly folder: string;
  /** What was done to the cluster: rows add what they do. */
  readonly faults: Fault[];
  /** Starts a node that the load does not know yet, or again. */
  start(index: number): NodeProcess;
  /** Waits until all these nodes are ready, see the same ring of them all, and get requests. @returns when */
  settled(nodes: readonly number[]): Promise<number>;
  /** Owner and successors of each client, as this node sees them. */
  owners(node: number): Promise<Ownership[]>;
  view(node: number): Promise<ClusterDescription | undefined>;
  /** Ends the load, once all nodes have said what they know. @returns all that was asked */
  finish(): Promise<History>;
}

export interface StageOptions {
  readonly name: string;
  readonly network: Network;
  /** Those to begin with; the network may have room for more. */
  readonly nodes: number;
  readonly settings?: readonly string[];
  readonly replicas?: number;
  readonly env?: (index: number) => NodeJS.ProcessEnv;
  /** How long the load will last. */
  readonly spanMs: number;
  /** Nodes that the fault keeps from running. */
  readonly absent?: readonly number[];
  /** The callers, instead of the usual ones. */
  readonly clients?: readonly AskedClient[];
  /** What is to be read off the history, instead of the usual. */
  readonly judge?: (checked: Checked) => readonly Figure[];
}

/** Starts a cluster and its generator, runs `play`, and takes all down, whatever happens. */
export async function withStage(
  run: RunOptions,
  options: StageOptions,
  play: (stage: Stage) => Promise<RowResult>,
): Promise<StageResult> {
  const { network, spanMs, absent = [], clients = createClients(PER_SECOND, spanMs), judge = checkedFigures } = options;
  const folder = join(run.folder, options.name);
  mkdirSync(folder, { recursive: true });
  const { replicas = 1 } = options;
  const settings = ['--replicas', String(replicas), ...(options.settings ?? []), ...run.settings];
  const cluster = createCluster({ network, dist: run.dist, settings, env: options.env ?? (() => ({})), folder });
  const asking = join(folder, 'clients.json');
  writeFileSync(asking, JSON.stringify(clients));
  const load = startLoad(network.outside, folder, { seed: run.seed, clients: asking });
  const stage = createStage({
    network,
    cluster,
    load,
    clients,
    folder,
    replicas,
  });
  const stallsSoFar = (): number =>
    cluster.log.filter(({ index, msg }) => msg.startsWith('paused; another node') && !absent.includes(index)).length;
  const limit = new AbortController();
  try {
    const first = Array.from({ length: options.nodes }, (_, i) => i);
    for (const index of first) stage.start(index);
    const played = stage.settled(first).then(() => play(stage));
    const tooLong = sleep(spanMs + SLACK_MS, undefined, { signal: limit.signal }).then(() => {
      throw new Error(`it takes ${SLACK_MS / 1000} s longer than it should; the logs are in ${folder}`);
    });
    // Whichever loses is of no interest any more.
    tooLong.catch(() => undefined);
    played.catch(() => undefined);
    const result = await Promise.race([played, tooLong]);
    const stalls = stallsSoFar();
    const also = [...result.also, ...judge(stage.checked())];
    return { ...result, also, stalls, notes: stalls === 0 ? result.notes : [...result.notes, stallNote(stalls)] };
  } catch (cause) {
    const stalls = stallsSoFar();
    if (stalls === 0) throw cause;
    throw new BusyError(`${(cause as Error).message}; ${stallNote(stalls)}`, { cause });
  } finally {
    limit.abort();
    await Promise.all([cluster.close(), load.close()]);
    network.close();
  }
}

/** A run that could not be judged, as the machine had no processor time for its nodes. */
export class BusyError extends Error {
  override readonly name = 'BusyError';
}

function stallNote(stalls: number): string {
  return `nodes that the machine kept from running for ${AWAY_MS} ms or more, a freeze of its own: ${stalls}`;
}

/** What starting, ending and a busy machine may add to the load's span. */
const SLACK_MS = 45_000;
/** What a node takes for having been away: 0.3 of the suspicion time. */
const AWAY_MS = 0.3 * SUSPECT_AFTER_MS;

/** Until what is under way has been answered and copied. */
const STILL_MS = 300;

interface StageParts extends Pick<Stage, 'network' | 'cluster' | 'load' | 'clients' | 'folder'> {
  readonly replicas: number;
}

function createStage(parts: StageParts): Stage & { checked(): Checked } {
  const { cluster, load, clients, replicas } = parts;
  const faults: Fault[] = [];
  let finished: Pick<Checked, 'history' | 'statements' | 'clientIds' | 'endMs'> | undefined;

  async function view(node: number): Promise<ClusterDescription | undefined> {
    const { status, body } = await load.get(node, '/v1/cluster');
    return status === 200 ? (JSON.parse(body) as ClusterDescription) : undefined;
  }

  async function seesAll(node: number, nodes: readonly number[]): Promise<boolean> {
    const members = (await view(node))?.members.filter(({ state }) => state === 'active') ?? [];
    if (members.length !== nodes.length || nodes.some((i) => !members.some(({ id }) => id === cluster.nodes[i]!.id)))
      return false;
    return load.call('routed', { node });
  }

  let began = false;

  return {
    ...parts,
    faults,
    start(index) {
      const known = cluster.nodes[index] !== undefined;
      const fromMs = machineMs();
      const node = cluster.start(index);
      if (!known) void load.call('node', { node: index, url: node.url });
      // Those that begin the ring join nobody.
      if (began)
        void node.ready.then(
          () => faults.push({ kind: 'join', node: node.id, fromMs, toMs: machineMs() }),
          () => undefined,
        );
      return node;
    },
    async settled(nodes) {
      await Promise.all(nodes.map((i) => cluster.nodes[i]!.ready));
      began = true;
      for (let i = 0; i < 400; i += 1) {
        const all = await Promise.all(nodes.map((node) => seesAll(node, nodes)));
        if (all.every(Boolean)) return machineMs();
        await sleep(50);
      }
      throw new Error(`nodes ${nodes.join()} do not agree on a ring of them all; their logs are in ${parts.folder}`);
    },
    async owners(node) {
      const paths = clients.map(({ id }) => `/v1/cluster/owner?clientId=${id}`);
      const got = await load.call('get', { node, paths });
      return got.map(({ body }) => JSON.parse(body) as Ownership);
    },
    view,
    async finish() {
      await load.call('saturate', { inFlight: 0 });
      await load.call('pace', { perSecond: 0 });
      await sleep(STILL_MS);
      const { atMs, ...said } = await takeStatements(
        load,
        cluster.nodes.length,
        clients.map(({ id }) => id),
      );
      const history = await load.finish();
      finished = { history, ...said, endMs: atMs };
      return history;
    },
    checked() {
      if (finished === undefined) throw new Error('the row has not finished its stage');
      return { ...finished, clients, replicas, faults, ids: cluster.nodes.map(({ id }) => id) };
    },
  };
}

/** Those that ask only when told to. */
export function spareClients(clients: readonly AskedClient[]): number[] {
  return clients.map((_, i) => i).slice(LOAD_CLIENTS);
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Cut } from '../../sim/check-strict.js';
import { startEtcdOn, type EtcdOnHosts } from '../etcd-hosts.js';
import { machineMs } from '../history.js';
import { createNamespaces } from '../namespaces.js';
import type { Row } from '../row.js';
import { withStage, type RunOptions, type StageResult } from '../stage.js';
import {
  BURST,
  createGroup,
  cutOf,
  ETCD_HOSTS,
  ETCDS,
  etcdDivided,
  FROM_ETCD,
  hasMain,
  HOT_PLACES,
  idleCuts,
  NODE_HOSTS,
  NODES,
  ODD,
  PARTITIONS,
  SHAPES,
  strictFigures,
  type Severing,
} from '../strict.js';
import { countBy, failures, figure, overLimit } from '../verdict.js';
import { extraBuckets } from './extra-buckets.js';
import { PEER_SETTINGS } from './partition.js';

const LEASE_MS = 2_000;
const PER_SECOND = 400;
const BEFORE_MS = 600;
/** From asking for leases to the cut, in which they are used. */
const LEASED_MS = 150;
/** A lease, half a second in which etcd finds that it has ended, and time to decide anew. */
const CUT_MS = 4_400;
/** After this of a cut somebody has taken over. */
const TAKEN_OVER_MS = 3_400;
const AFTER_MS = 300;
/** What joining again takes at most, a cut. */
const HEALED_MS = 4_000;
/** So many take less than two minutes. */
const CUTS_A_ROW = 12;

const SETTINGS = ['--discovery', 'etcd', '--etcd-lease-ms', String(LEASE_MS), '--strict', 'true'];

/** A few of all kinds, for every change of the program. */
const FEW = [
  ...PARTITIONS.filter(({ what }) => ['0|1+2+3+4+etcd', '0+1+etcd|2+3+4', '0+1+2+3+4|etcd'].includes(what)),
  ...FROM_ETCD.filter(({ what }) => what === '0 from etcd only'),
  ...ODD.filter(({ what }) => what === '0 not heard by anyone'),
];

/** Five nodes and an etcd of three, each in a network of its own, cut in every way there is: one side at most decides. */
export const STRICT_ROWS: readonly Row[] = [
  strictRow('strict', 'strict: five nodes and etcd, cut in five ways', () => FEW),
  ...inParts('strict-shapes', 'a partition of each shape', SHAPES),
  ...inParts('strict', 'all partitions of five nodes and etcd', PARTITIONS),
  ...inParts('strict-etcd', 'any of five nodes cut off from etcd alone', FROM_ETCD),
  ...inParts('strict-odd', 'cut off from peers but not etcd, and cuts of one way', ODD),
  strictRow('strict-split', 'strict: etcd itself cut, with each number of nodes', (etcd) => etcdDivided(etcd.leader())),
  ...inParts('strict-one-copy', 'one copy each, partitions of each shape', SHAPES, { replicas: 1 }),
];

/** Several rows, as all in one take long. */
function inParts(name: string, what: string, all: readonly Severing[], options: StrictOptions = {}): Row[] {
  return Array.from({ length: Math.ceil(all.length / CUTS_A_ROW) }, (_, part) => {
    const some = all.slice(part * CUTS_A_ROW, (part + 1) * CUTS_A_ROW);
    const from = part * CUTS_A_ROW + 1;
    const which = `${from} to ${from + some.length - 1} of ${all.length}`;
    return strictRow(`${name}-${part + 1}`, `strict: ${what}, ${which}`, () => some, options);
  });
}

interface StrictOptions {
  /** One copy each is enough for one side at most to decide; what it has admitted may be lost with owner and copy. */
  readonly replicas?: number;
}

function strictRow(
  name: string,
  fault: string,
  severings: (etcd: EtcdOnHosts) => readonly Severing[],
  { replicas = NODES - 1 }: StrictOptions = {},
): Row {
  return {
    name,
    fault,
    needs: ['namespaces', 'etcd'],
    run: (options) => runStrict(name, severings, replicas, options),
  };
}

async function runStrict(
  name: string,
  severings: (etcd: EtcdOnHosts) => readonly Severing[],
  replicas: number,
  options: RunOptions,
): Promise<StageResult> {
  const network = createNamespaces(NODES + ETCDS);
  const etcd = await startEtcdOn(
    ETCD_HOSTS.map((host) => network.nodes[host]!),
    network.outside,
  );
  const cuts: (Cut & { what: string; lateMs: number; main: boolean })[] = [];
  try {
    await etcd.elected();
    const list = severings(etcd);
    const groups = list.map((_, i) => createGroup(i));
    const spanMs = list.length * (BEFORE_MS + CUT_MS + HEALED_MS + AFTER_MS);
    const settings = [...PEER_SETTINGS, ...SETTINGS, '--etcd-endpoints', etcd.endpoints, '--on-unavailable', 'closed'];
    const stageOptions = {
      name,
      network,
      nodes: NODES,
      replicas,
      settings,
      spanMs,
      clients: groups.flat(),
      judge: (checked: Parameters<typeof strictFigures>[0]) => [
        ...strictFigures(checked, cuts),
        idleCuts(
          checked,
          cuts.filter(({ main }) => main),
        ),
      ],
    };
    return await withStage(options, stageOptions, async (stage) => {
      const { load, clients, cluster } = stage;
      const ids = cluster.nodes.map(({ id }) => id);
      const healed: number[] = [];
      let first = 0;
      for (const [i, severing] of list.entries()) {
        const among = groups[i]!.map((_, at) => first + at);
        first += among.length;
        await load.call('pace', { perSecond: PER_SECOND, among });
        const burst = async (): Promise<void> => {
          const hot = HOT_PLACES.map((place) => among[place]!);
          for (const node of NODE_HOSTS) await load.call('burst', { clients: hot, times: BURST, node });
        };
        await sleep(BEFORE_MS - LEASED_MS);
        await burst();
        await sleep(LEASED_MS);
        network.cutAll(severing.pairs);
        const fromMs = machineMs();
        await burst();
        await sleep(TAKEN_OVER_MS);
        await burst();
        await sleep(CUT_MS - TAKEN_OVER_MS);
        const toMs = machineMs();
        network.heal();
        const { sides } = severing;
        stage.faults.push({ kind: 'partition', sides: nodesOf(severing, ids), fromMs, toMs });
        cuts.push({
          ...cutOf({ ...severing, sides }, ids, { fromMs, toMs }),
          what: severing.what,
          lateMs: fromMs + TAKEN_OVER_MS,
          main: hasMain(severing),
        });
        healed.push((await stage.settled(NODE_HOSTS)) - toMs);
        await sleep(AFTER_MS);
      }
      const history = await stage.finish();
      const { asked } = history;
      return {
        failed: failures(asked),
        over:
          replicas === NODES - 1 ? overLimit(asked, clients) : overLimit(asked, clients, extraBuckets(clients, CUT_MS)),
        also: [figure('cuts', cuts.length, String(list.length), cuts.length === list.length)],
        notes: [
          `${asked.length} requests; answers: ${countBy(asked, ({ source, allowed }) => `${source} ${allowed === true ? 'admitted' : 'denied'}`)}`,
          `one ring again after healing: within ${Math.round(Math.max(...healed))} ms`,
        ],
      };
    });
  } finally {
    await etcd.close();
  }
}

/** The sides without etcd, as the usual checks want them. */
function nodesOf({ sides }: Severing, ids: readonly string[]): string[][] {
  return sides.map((side) => side.flatMap((id) => ids[Number(id)] ?? [])).filter((side) => side.length > 0);
}

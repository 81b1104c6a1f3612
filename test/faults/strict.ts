import type { NodeId } from '../../src/limits/ring/ring.js';
import { checkAgreement } from '../sim/check-agreement.js';
import { checkAnswers } from '../sim/check-answers.js';
import { checkNoneAbove, checkOneSide, type Cut } from '../sim/check-strict.js';
import { cutsOf, ETCD } from '../sim/cuts.js';
import { historyOf, told, type Checked } from './checked.js';
import { HOUR_MS, type AskedClient } from './clients.js';
import { figure, type Figure } from './verdict.js';

/** Hosts: those of the nodes come first, then those of etcd. */
export const NODES = 5;
export const ETCDS = 3;
const NODE_NAMES = Array.from({ length: NODES }, (_, i) => String(i));
export const NODE_HOSTS = NODE_NAMES.map(Number);
export const ETCD_HOSTS = Array.from({ length: ETCDS }, (_, i) => NODES + i);

/** Nothing that the first sends reaches the second. */
type Pair = readonly [from: number, to: number];

/** One way to cut five nodes and an etcd of three. */
export interface Severing {
  readonly what: string;
  /** Members of one side of a cut decide together: nodes, and `ETCD` with those that reach a majority of it. */
  readonly sides: readonly (readonly string[])[];
  readonly pairs: readonly Pair[];
}

const across = (some: readonly number[], others: readonly number[]): Pair[] =>
  some.flatMap((from) => others.map((to): Pair => [from, to]));
const between = (some: readonly number[], others: readonly number[]): Pair[] => [
  ...across(some, others),
  ...across(others, some),
];

/** The hosts of one side: all of etcd is where it is. */
function hostsOf(side: readonly string[]): number[] {
  return side.flatMap((id) => (id === ETCD ? ETCD_HOSTS : [Number(id)]));
}

function severed(groups: readonly (readonly number[])[]): Pair[] {
  return groups.flatMap((some, i) => groups.slice(i + 1).flatMap((others) => between(some, others)));
}

function divided(sides: readonly (readonly string[])[]): Severing {
  return { what: sides.map((side) => side.join('+')).join('|'), sides, pairs: severed(sides.map(hostsOf)) };
}

/** All 203: each partition of five with etcd on each of its sides, and on none. */
export const PARTITIONS: readonly Severing[] = cutsOf(NODE_NAMES).map(divided);

/** One partition of each shape: how many are on each side, and on which etcd is. */
export const SHAPES: readonly Severing[] = [
  ...new Map(
    PARTITIONS.map((one): [string, Severing] => {
      const sizes = one.sides.map((side) => (side.includes(ETCD) ? `etcd ${side.length - 1}` : `${side.length}`));
      return [sizes.sort().join(), one];
    }),
  ).values(),
];

/** All 31 ways in which some are cut off from etcd, and nobody from a peer. */
export const FROM_ETCD: readonly Severing[] = Array.from({ length: 2 ** NODES - 1 }, (_, i): Severing => {
  const off = NODE_NAMES.filter((_, node) => ((i + 1) >> node) & 1);
  const on = NODE_NAMES.filter((node) => !off.includes(node));
  return {
    what: `${off.join('+')} from etcd only`,
    sides: [[...on, ETCD], off],
    pairs: between(off.map(Number), ETCD_HOSTS),
  };
});

/** A node that stays a member in etcd is replaced by nobody. So each node is a side of its own, and one decides. */
const EACH = NODE_NAMES.map((node) => [node]);

/** One partition of each shape with all on etcd, one pair, and one or two nodes that are not heard, or do not hear, whom. */
export const ODD: readonly Severing[] = [
  ...[
    [[0]],
    [[0, 1]],
    [[0], [1]],
    [
      [0, 1],
      [2, 3],
    ],
    [[0, 1], [2], [3]],
    [[0], [1], [2], [3]],
  ].map((groups): Severing => {
    const rest = NODE_HOSTS.filter((node) => !groups.flat().includes(node));
    const all = [...groups, rest];
    const what = `${all.map((group) => group.join('+')).join('|')}, all on etcd`;
    return { what, sides: EACH, pairs: severed(all) };
  }),
  { what: '0|1 only', sides: EACH, pairs: between([0], [1]) },
  ...[[0], [0, 1]].flatMap((some): Severing[] => {
    const rest = NODE_HOSTS.filter((node) => !some.includes(node));
    const off = some.map(String);
    const replaced = [[...rest.map(String), ETCD], off];
    const who = off.join('+');
    return [
      { what: `${who} not heard by peers`, sides: EACH, pairs: across(some, rest) },
      { what: `${who} not hearing peers`, sides: EACH, pairs: across(rest, some) },
      { what: `${who} not heard by etcd`, sides: replaced, pairs: across(some, ETCD_HOSTS) },
      { what: `${who} not hearing etcd`, sides: replaced, pairs: across(ETCD_HOSTS, some) },
      { what: `${who} not heard by anyone`, sides: replaced, pairs: across(some, [...rest, ...ETCD_HOSTS]) },
      { what: `${who} hearing nobody`, sides: replaced, pairs: across([...rest, ...ETCD_HOSTS], some) },
    ];
  }),
];

/**
 * Etcd itself is cut: one of its members, its leader or another, with each number of nodes; and all three from each other.
 * @param leader the member that leads
 */
export function etcdDivided(leader: number): readonly Severing[] {
  const follower = (leader + 1) % ETCDS;
  const two = [leader, follower].flatMap((member): Severing[] =>
    [0, 1, 2, 3, 4, 5].map((count): Severing => {
      const few = NODE_NAMES.slice(0, count);
      const rest = NODE_NAMES.slice(count);
      const alone = ETCD_HOSTS[member]!;
      const others = ETCD_HOSTS.filter((host) => host !== alone);
      const with1 = [...few, member === leader ? "etcd's leader" : 'one of etcd'].join('+');
      return {
        what: `${with1}|${[...rest, 'two of etcd'].join('+')}`,
        sides: [few, [...rest, ETCD]].filter((side) => side.length > 0),
        pairs: between([...few.map(Number), alone], [...rest.map(Number), ...others]),
      };
    }),
  );
  return [
    ...two,
    {
      what: "etcd's three from each other, reached by all nodes",
      sides: [NODE_NAMES, [ETCD]],
      pairs: severed(ETCD_HOSTS.map((host) => [host])),
    },
  ];
}

/** Whether another node may take over meanwhile. A node that is cut off from peers alone stays the owner, and can admit nothing. */
export function hasMain({ sides }: Severing): boolean {
  return sides.some((side) => side.includes(ETCD) && side.length > 1);
}

/** Of each cut: some limits are used up before it, some in it, some after it; and two clients that come in bursts, for leases. */
const LIMITS = [8, 20, 40, 60, 90, 140];
const KINDS = ['token-bucket', 'sliding-window'] as const;
const HOT = [
  { limit: 1_000, windowMs: HOUR_MS },
  { limit: 300, windowMs: 10_000 },
];
const HOT_WEIGHT = 6;
/** Places of the hot ones in their group. */
export const HOT_PLACES = HOT.map((_, i) => LIMITS.length * KINDS.length + i);
/** At each node: enough that it asks for a lease. */
export const BURST = 36;

/** Those who ask while one cut is made and healed, and never again. */
export function createGroup(cut: number): readonly AskedClient[] {
  const usual = LIMITS.flatMap((limit) =>
    KINDS.map((algorithm): AskedClient => {
      const rule = { algorithm, limit, windowMs: HOUR_MS, capacity: limit };
      return { id: `cut-${cut}-${algorithm}-${limit}`, rules: [rule], weight: 2 };
    }),
  );
  const hot = HOT.map(({ limit, windowMs }, i): AskedClient => {
    const rule = { algorithm: 'token-bucket' as const, limit, windowMs, capacity: limit };
    return { id: `cut-${cut}-hot-${i}`, rules: [rule], weight: HOT_WEIGHT };
  });
  return [...usual, ...hot];
}

/** The checks of strict mode: nothing is excused, where all have copies of all. */
export function strictFigures(checked: Checked, cuts: readonly Cut[]): readonly Figure[] {
  const history = historyOf(checked);
  const late = checkAnswers(history);
  const formula = 'violations of the formula, by the simulator’s checker with nothing excused';
  return [
    ...(checked.replicas === NODES - 1 ? [told(formula, checkNoneAbove(history))] : []),
    told(
      'decisions on a second side of a cut',
      cuts.flatMap((cut) => checkOneSide(history, cut)),
    ),
    told('violations of agreement in the end', checkAgreement(history)),
    { ...told('answers that it finds late', late), timing: true },
  ];
}

/** A severing as the checker knows it. */
export function cutOf({ sides }: Severing, ids: readonly NodeId[], span: Omit<Cut, 'sides'>): Cut {
  return { ...span, sides: sides.map((side) => side.map((id) => (id === ETCD ? ETCD : ids[Number(id)]!))) };
}

/** Those in whose last part nobody was admitted, though somebody could have been. */
export function idleCuts(
  checked: Pick<Checked, 'history'>,
  cuts: readonly { readonly what: string; readonly lateMs: number; readonly toMs: number }[],
): Figure {
  const idle = cuts.filter(
    ({ lateMs, toMs }) =>
      !checked.history.asked.some(
        ({ allowed, sentMs, receivedMs }) => allowed === true && sentMs > lateMs && receivedMs < toMs,
      ),
  );
  const found = `${idle.length}${idle.map(({ what }) => `; ${what}`).join('')}`;
  const what = 'cuts in whose last part nobody was admitted, though a side has etcd';
  return { ...figure(what, found, `0 of ${cuts.length}`, idle.length === 0), timing: true };
}

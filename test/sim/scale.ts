/** `npm run sim:scale`: what grows with the number of nodes, measured with the program's own code in virtual time. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { SUSPECT_AFTER_MS } from './scale-cluster.js';
import { deriveScale, measureScale, type Scale, type ScaleOptions } from './scale-measure.js';
import { plot } from './scale-plot.js';

const CLIENTS = 1_000_000;
/** Of 300 nodes the messages are too many to simulate a join, and all clients' buckets; of 1,000 any. */
const SIZES: readonly ScaleOptions[] = [
  { nodes: 10, clients: CLIENTS, live: CLIENTS, decisions: 2_000, joins: true },
  { nodes: 30, clients: CLIENTS, live: CLIENTS, decisions: 2_000, joins: true },
  { nodes: 100, clients: CLIENTS, live: CLIENTS, decisions: 2_000, joins: true },
  { nodes: 300, clients: CLIENTS, live: 20_000, decisions: 2_000, joins: false },
];
const DERIVED = 1_000;

/** What a message between two real nodes costs both together, over loopback. */
const MESSAGE_CPU_MS = 0.055;
/** The part of a core that heartbeats may take, however many nodes there are. */
const TOO_MUCH = 0.01;

function cpuShare({ heartbeats }: Scale): number {
  return (heartbeats * MESSAGE_CPU_MS) / 1_000;
}

const COLUMNS: readonly [head: string, cell: (scale: Scale) => string][] = [
  ['nodes', ({ nodes, forwards }) => `${whole(nodes)}${Number.isNaN(forwards) ? ' (derived)' : ''}`],
  ['fullest node, of the mean', ({ fullest }) => fullest.toFixed(3)],
  ['forwards, a decision', ({ forwards }) => known(forwards, forwards.toFixed(2))],
  ['copies, a decision', ({ copies }) => known(copies, copies.toFixed(2))],
  ['heartbeats a node sends, a second', ({ heartbeats }) => whole(heartbeats)],
  ['bytes of one and its answer', ({ heartbeatBytes }) => whole(heartbeatBytes)],
  ['of a core', (scale) => `${(100 * cpuShare(scale)).toFixed(1)}%`],
  ['clients that a join moves', ({ moved, clients }) => `${whole(moved)} of ${whole(clients)}`],
  ['ms for it', ({ joined }) => (joined === undefined ? '–' : whole(joined.tookMs))],
  ['buckets and copies handed over', ({ joined }) => (joined === undefined ? '–' : whole(joined.handed))],
  ['ms until all know of a crash', ({ allKnowMs }) => known(allKnowMs, whole(allKnowMs))],
  ['ms of the turn: a join', ({ joinTurnMs }) => joinTurnMs.toFixed(1)],
  ['a leave', ({ leaveTurnMs }) => leaveTurnMs.toFixed(1)],
];

function known(value: number, text: string): string {
  return Number.isNaN(value) ? '–' : text;
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en');
}

const { values } = parseArgs({ options: { nodes: { type: 'string' }, svg: { type: 'string' } } });
const wanted = values.nodes?.split(',').map(Number);
const row = (cells: readonly string[]): void => console.log(`| ${cells.join(' | ')} |`);
row(COLUMNS.map(([head]) => head));
row(COLUMNS.map(() => '---'));
const scales: Scale[] = [];
function tell(scale: Scale): void {
  scales.push(scale);
  row(COLUMNS.map(([, cell]) => cell(scale)));
}
for (const size of SIZES.filter(({ nodes }) => wanted?.includes(nodes) ?? true)) tell(await measureScale(size));
const last = scales.at(-1);
if (last === undefined) throw new Error(`--nodes: expected some of ${SIZES.map(({ nodes }) => nodes).join()}`);
if (wanted?.includes(DERIVED) ?? true) tell(deriveScale(last, DERIVED));
if (values.svg !== undefined) {
  const percent = (value: number): string => `${Math.round(100 * value)}%`;
  const picture = plot(scales, [
    {
      title: 'Heartbeats, of a core on each node',
      of: cpuShare,
      max: 0.02,
      bound: TOO_MUCH,
      says: '1%',
      tick: percent,
    },
    {
      title: 'Messages for a decision',
      of: ({ forwards, copies }) => forwards + copies,
      max: 3,
      bound: 2,
      says: 'one to the owner, one to the successor',
      tick: (value) => value.toFixed(1),
    },
    {
      title: 'Fullest node, of the mean',
      of: ({ fullest }) => fullest,
      max: 1.4,
      bound: 1.1,
      says: '1.10',
      tick: (value) => value.toFixed(1),
    },
    {
      title: 'Until all know of a crash, ms',
      of: ({ allKnowMs }) => allKnowMs,
      max: 1_600,
      bound: SUSPECT_AFTER_MS,
      says: 'suspicion time',
      tick: whole,
    },
  ]);
  writeFileSync(values.svg, picture);
}

import { find, h, setText } from './dom.js';
import { bytes, count, duration, percent, plural } from './format.js';
import { quantile, sum } from './rates.js';

/** @typedef {import('./rates.js').Sample} Sample */

/** @type {readonly (readonly [label: string, value: (sample: Sample) => string, more: (sample: Sample) => string])[]} */
const TILES = [
  ['Decisions per second', ({ total }) => count(total && total.allowed + total.denied), ({ total }) => deniedOf(total)],
  ['Latency p99', ({ total }) => latency(total, 0.99), ({ total }) => `p50 ${latency(total, 0.5)}`],
  ['Members in the ring', ({ cluster }) => count(inRing(cluster).length), versionsOf],
  ['Replication lag', (sample) => duration(worst(sample, 'replicationLagMs')), () => 'the oldest of all members'],
  ['Clients', ({ reports }) => count(total(reports, 'clients')), () => 'owned and copied'],
  ['Memory', ({ reports }) => bytes(total(reports, 'memoryBytes')), memoryOf],
];

/** @param {import('./rates.js').Rates | undefined} rates */
function deniedOf(rates) {
  const all = rates === undefined ? 0 : rates.allowed + rates.denied;
  return `${percent(all === 0 ? undefined : (rates?.denied ?? 0) / all)} denied`;
}

/** @param {import('./rates.js').Rates | undefined} rates @param {number} part */
function latency(rates, part) {
  return duration(rates && quantile(rates.durations, part));
}

/** @param {Sample['cluster']} cluster */
function inRing({ members }) {
  return members.filter(({ share }) => share > 0);
}

/** @param {Sample} sample */
function versionsOf({ cluster }) {
  const versions = new Set(inRing(cluster).map(({ version }) => version));
  const away = cluster.members.length - inRing(cluster).length;
  const both = versions.size > 1 ? plural(versions.size, 'version') : `version ${[...versions].join('')}`;
  return away === 0 ? both : `${both}, ${count(away)} away`;
}

/** @param {Sample['reports']} reports @param {'clients' | 'memoryBytes' | 'memoryBudgetBytes'} name */
function total(reports, name) {
  return reports.size === 0 ? undefined : sum([...reports.values()].map((report) => report[name]));
}

/** @param {Sample} sample @param {'replicationLagMs'} name */
export function worst({ reports }, name) {
  return reports.size === 0 ? undefined : Math.max(...[...reports.values()].map((report) => report[name]));
}

/** @param {Sample} sample */
function memoryOf({ reports }) {
  const budget = total(reports, 'memoryBudgetBytes');
  return budget === undefined || budget === 0 ? 'all members' : `of ${bytes(budget)}`;
}

/** Shows the most important figures. */
export function createTiles() {
  const tiles = TILES.map(([label, value, more]) => {
    const [main, small] = [h('dd', { class: 'value' }, '–'), h('dd', { class: 'more' }, '\u00a0')];
    return { main, small, value, more, tile: h('div', {}, h('dt', {}, label), main, small) };
  });
  find('#tiles').replaceChildren(...tiles.map(({ tile }) => tile));
  return (/** @type {Sample} */ sample) => {
    for (const { main, small, value, more } of tiles) {
      setText(main, value(sample));
      setText(small, more(sample));
    }
  };
}

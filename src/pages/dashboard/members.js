import { find, h, idOf, linkTo, setText } from './dom.js';
import { bytes, count, duration, percent } from './format.js';
import { quantile } from './rates.js';
import { hueOf } from './ring.js';

/** @typedef {import('./rates.js').Sample} Sample */

const FIGURES = 8;

/** Shows a row for each member. Rows and cells stay, and only texts that differ change. */
export function createMembers() {
  const body = find('tbody', find('#members'));
  /** @type {Map<string, { row: HTMLElement, url: string | undefined, cells: HTMLElement[], state: HTMLElement }>} */
  const rows = new Map();

  /** @param {string} id @param {string | undefined} url @param {number} i */
  function makeRow(id, url, i) {
    const swatch = h('span', { class: 'swatch', 'aria-hidden': 'true' });
    swatch.style.setProperty('--hue', String(hueOf(i)));
    const state = h('td');
    const cells = Array.from({ length: FIGURES }, () => h('td', { class: 'number' }));
    const version = h('td');
    const row = h('tr', {}, h('th', { scope: 'row' }, swatch, linkTo(url, idOf(id))), state, ...cells, version);
    return { row, url, state, cells: [...cells, version] };
  }

  return (/** @type {Sample} */ { cluster, reports, rates }) => {
    const ids = new Set(cluster.members.map(({ id }) => id));
    const changed =
      cluster.members.length !== rows.size || cluster.members.some(({ id, url }) => rows.get(id)?.url !== url);
    if (changed || [...rows.keys()].some((id) => !ids.has(id))) {
      rows.clear();
      for (const [i, { id, url }] of cluster.members.entries()) rows.set(id, makeRow(id, url, i));
      body.replaceChildren(...[...rows.values()].map(({ row }) => row));
    }
    for (const { id, state, share, version } of cluster.members) {
      const one = rows.get(id);
      if (one === undefined) continue;
      const [rate, report] = [rates.get(id), reports.get(id)];
      const texts = [
        percent(share),
        count(rate?.allowed),
        count(rate?.denied),
        duration(rate && quantile(rate.durations, 0.99)),
        count(report?.clients),
        duration(report?.replicationLagMs),
        bytes(report?.memoryBytes),
        percent(rate?.busy),
        version,
      ];
      setText(one.state, state);
      one.state.className = `state ${state}`;
      one.row.classList.toggle('no-report', report === undefined);
      for (const [i, text] of texts.entries()) {
        const cell = one.cells[i];
        if (cell !== undefined) setText(cell, text);
      }
    }
  };
}

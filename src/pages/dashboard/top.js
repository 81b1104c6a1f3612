import { ask, messageOf } from './api.js';
import { find, h, idOf, isInUse, setText } from './dom.js';
import { count } from './format.js';

/** @typedef {import('../../lib/space-saving.js').Counted} Counted */
/** @typedef {import('../../limits/top-clients.js').Ranking} Ranking */

const EVERY_MS = 2_000;
const LENGTH = 10;

/** @type {readonly (readonly [Ranking, string, string])[]} */
const LISTS = [
  ['denied', 'Denied most', 'denials'],
  ['asked', 'Asking most', 'requests'],
  ['cost', 'Consuming most', 'tokens'],
];

/**
 * Shows the three lists of the clients with the largest counts.
 * @param {(clientId: string) => void} search
 * @param {() => boolean} isLive whether the node answers
 */
export function createTop(search, isLive) {
  const [policy, span] = [find('#top-policy', document), find('#top-span', document)].map(
    (input) => /** @type {HTMLInputElement} */ (input),
  );
  const missing = find('#top-missing');
  const lists = LISTS.map(([by, title, unit]) => createList(by, title, unit, search));
  find('#top-lists').replaceChildren(...lists.map(({ table }) => table));

  async function read() {
    const name = policy?.value.trim() ?? '';
    /** @type {Set<string>} */
    const silent = new Set();
    await Promise.all(
      lists.map(async ({ by, show }) => {
        const filter = name === '' ? {} : { policy: name };
        const query = new URLSearchParams({ by, span: span?.value ?? 'minute', limit: String(LENGTH), ...filter });
        const { json } = await ask(`v1/top?${query}`);
        for (const id of json.missing) silent.add(id);
        show(json.clients);
      }),
    );
    setText(missing, silent.size === 0 ? '' : `Without the counts of ${[...silent].slice(0, 5).join(', ')}.`);
  }

  async function refresh() {
    try {
      await read();
    } catch (error) {
      setText(missing, messageOf(error));
    }
  }

  async function repeat() {
    if (!document.hidden && isLive()) await refresh();
    setTimeout(() => void repeat(), EVERY_MS);
  }

  find('#top-filter').addEventListener('submit', (event) => event.preventDefault());
  find('#top-filter').addEventListener('change', () => void refresh());
  void repeat();
  return { refresh };
}

/**
 * @param {Ranking} by
 * @param {string} title
 * @param {string} unit
 * @param {(clientId: string) => void} search
 */
function createList(by, title, unit, search) {
  const body = h('tbody');
  const paused = h('span', { class: 'hint' });
  const head = h(
    'tr',
    {},
    h('th', { scope: 'col' }, 'Client'),
    h('th', { scope: 'col' }, 'Policy'),
    h('th', { scope: 'col', class: 'number' }, unit),
    h('th', { scope: 'col', class: 'number', 'aria-label': 'error' }, '±'),
    h('th', { scope: 'col', class: 'number', title: 'answered by clients with the SDK, from memory' }, 'by SDK'),
  );
  const table = h('table', { class: 'top' }, h('caption', {}, title, ' ', paused), h('thead', {}, head), body);
  let drawn = '';

  return {
    by,
    table,
    /** @param {readonly Counted[]} clients */
    show(clients) {
      // A row that somebody is about to press must not become another's.
      setText(paused, isInUse(body) ? '(paused while you use it)' : '');
      if (isInUse(body)) return;
      const next = JSON.stringify(clients);
      if (next === drawn) return;
      drawn = next;
      const rows = clients.map(({ clientId, policy, count: amount, error, source }) =>
        h(
          'tr',
          {},
          h('td', {}, h('button', { type: 'button', class: 'link', click: () => search(clientId) }, idOf(clientId))),
          h('td', {}, policy === undefined ? '' : idOf(policy)),
          h('td', { class: 'number' }, count(amount)),
          h('td', { class: 'number' }, count(error)),
          h('td', { class: 'number' }, count(source.sdk)),
        ),
      );
      const none = h('tr', {}, h('td', { colspan: 5, class: 'hint' }, 'none'));
      body.replaceChildren(...(rows.length === 0 ? [none] : rows));
    },
  };
}

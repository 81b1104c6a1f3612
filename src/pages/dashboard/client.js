import { ask, clientPath, messageOf } from './api.js';
import { find, h, idOf } from './dom.js';
import { count, long, percent } from './format.js';

/** @typedef {import('../../limits/request/description.js').ClientDescription} ClientDescription */
/** @typedef {import('./ring.js').Place} Place */

const MAX_SUCCESSORS = 5;

/**
 * @typedef {object} ClientActions
 * @property {(place: Place | undefined) => void} mark shows the client on the ring
 * @property {() => boolean} isAdmin
 * @property {() => readonly string[]} policies
 * @property {(subject: import('./editor.js').Subject) => Promise<void>} edit
 * @property {(question: import('./dialogs.js').Question) => void} confirm
 * @property {(message: string) => void} done
 */

/** Searches a client. @param {ClientActions} actions */
export function createClient(actions) {
  const { mark, isAdmin, policies, edit, confirm, done } = actions;
  const input = /** @type {HTMLInputElement} */ (find('#client-id'));
  const [result, changes] = [find('#client'), find('#client-actions')];
  /** The client shown. */
  let shown = '';

  async function show() {
    const clientId = shown;
    if (clientId === '') return;
    try {
      const [{ json: place }, { json: client }] = await Promise.all([
        ask(`v1/cluster/owner?${new URLSearchParams({ clientId })}`),
        ask(clientPath(clientId)),
      ]);
      if (clientId !== shown) return;
      mark(place);
      result.replaceChildren(describe(place), bucketsOf(client));
      drawActions();
    } catch (error) {
      mark(undefined);
      result.replaceChildren(h('p', { class: 'error' }, messageOf(error)));
      changes.replaceChildren();
    }
  }

  function drawActions() {
    if (!isAdmin() || shown === '') return changes.replaceChildren();
    const clientId = shown;
    const names = policies().map((name) => h('option', { value: name }, name));
    const policy = h('select', { id: 'override-policy' }, ...names);
    const fail = (/** @type {unknown} */ error) => done(messageOf(error));
    const override = () =>
      edit({
        title: `Override of ${policy.value} for ${clientId}`,
        path: clientPath(clientId, `/overrides/${encodeURIComponent(policy.value)}`),
        own: ['clientId', 'policy'],
        template: { limit: 1000 },
      }).catch(fail);
    const tier = () =>
      edit({
        title: `Tier of ${clientId}`,
        path: clientPath(clientId, '/tier'),
        own: ['clientId'],
        template: { tier: '' },
      }).catch(fail);
    const reset = () =>
      confirm({
        title: 'Reset this client?',
        text: `All nodes forget what ${clientId} has consumed. Its limits start full.`,
        yes: 'Reset',
        async act() {
          await ask(clientPath(clientId), { method: 'DELETE' });
          done(`${clientId} is reset.`);
        },
      });
    const overrides = h(
      'div',
      { class: 'row' },
      h('label', { for: 'override-policy' }, 'Policy'),
      policy,
      h('button', { type: 'button', click: () => void override() }, 'Override …'),
    );
    changes.replaceChildren(
      ...(names.length === 0 ? [] : [overrides]),
      h(
        'div',
        { class: 'row' },
        h('button', { type: 'button', click: () => void tier() }, 'Tier …'),
        h('button', { type: 'button', class: 'danger', click: reset }, 'Reset …'),
      ),
    );
  }

  /** @param {string} clientId */
  function search(clientId) {
    input.value = clientId;
    shown = clientId;
    void show();
  }

  find('#search').addEventListener('submit', (event) => {
    event.preventDefault();
    search(input.value);
  });
  return { search, refresh: show, drawActions };
}

/** @param {Place & { clientId: string }} place */
function describe({ clientId, owner, successors, point }) {
  const more = successors.length - MAX_SUCCESSORS;
  const next = successors.slice(0, MAX_SUCCESSORS).map((id) => h('li', {}, idOf(id)));
  if (more > 0) next.push(h('li', {}, `and ${more} more`));
  return h(
    'dl',
    { class: 'facts' },
    ...fact('Client', idOf(clientId)),
    ...fact('Point', `${percent(point)} of the way around, clockwise from the top`),
    ...fact('Owner', idOf(owner)),
    ...fact('Successors', next.length === 0 ? 'none' : h('ol', {}, ...next)),
  );
}

/** @param {string} name @param {Node | string} value */
function fact(name, value) {
  return [h('dt', {}, name), h('dd', {}, value)];
}

/** @param {ClientDescription} client */
function bucketsOf({ buckets }) {
  if (buckets.length === 0) return h('p', { class: 'hint' }, 'No bucket: the client has consumed nothing lately.');
  const head = ['Scope', 'Policy', 'Algorithm', 'Window', 'Limit', 'Remaining', 'Full in'].map((name, i) =>
    h('th', { scope: 'col', class: i < 3 ? '' : 'number' }, name),
  );
  const rows = buckets.map(({ scope, policy, algorithm, windowMs, limit, remaining, resetMs }) =>
    h(
      'tr',
      {},
      h('td', {}, scope === undefined ? '–' : idOf(scope)),
      h('td', {}, policy === undefined ? '–' : idOf(policy)),
      h('td', {}, algorithm),
      ...[long(windowMs), count(limit), count(remaining), long(resetMs)].map((text) =>
        h('td', { class: 'number' }, text),
      ),
    ),
  );
  const table = h(
    'table',
    {},
    h('caption', {}, 'Buckets'),
    h('thead', {}, h('tr', {}, ...head)),
    h('tbody', {}, ...rows),
  );
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Buckets of the client' }, table);
}

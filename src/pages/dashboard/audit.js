import { ask } from './api.js';
import { createDialog, drawDiff, textOf } from './dialogs.js';
import { find, h, idOf } from './dom.js';
import { clock } from './format.js';

/**
 * A change as `/v1/audit` lists it.
 * @typedef {object} Change
 * @property {number} atMs
 * @property {Record<string, any>} who
 * @property {string} what
 * @property {string} [target]
 * @property {unknown} [before]
 * @property {unknown} [after]
 */

/** @param {Record<string, any>} who */
function whoText({ token, address, certificate, file, nodes }) {
  if (file !== undefined) return `the file ${file}`;
  if (nodes !== undefined) return `the nodes ${nodes.join(', ')}`;
  return [token, certificate, address].filter((one) => one !== undefined).join(', ');
}

/**
 * @param {Change} change
 * @param {string} [key] shows the values of this entry only
 */
function drawChange({ atMs, who, what, target, before, after }, key) {
  const only = (/** @type {any} */ value) => (key === undefined ? value : value?.[key]);
  const time = h('time', { datetime: new Date(atMs).toISOString() }, clock(atMs));
  const values = drawDiff(textOf(only(before)), textOf(only(after)));
  const summary = h(
    'summary',
    {},
    time,
    ' ',
    h('strong', {}, what),
    ' ',
    target && idOf(target),
    ' by ',
    idOf(whoText(who)),
  );
  const details = h('details', {}, summary, h('pre', { class: 'diff' }, ...values));
  if (key !== undefined) details.open = true;
  return h('li', {}, details);
}

/** Shows the last changes, and those of one policy. They need the admin token. */
export function createAudit() {
  const list = find('#changes');
  const none = find('#audit p.hint');
  const { dialog, open } = createDialog('history', () => undefined);
  /** @type {readonly Change[]} */
  let changes = [];
  let drawn = '';

  return {
    /** @throws {Problem} without the role */
    async refresh() {
      const { json } = await ask('v1/audit');
      changes = json.changes;
      none.hidden = changes.length > 0;
      const next = JSON.stringify(changes);
      if (next === drawn) return;
      drawn = next;
      list.replaceChildren(...changes.map((change) => drawChange(change)));
    },
    /** @param {string} name of a policy */
    showHistory(name) {
      const key = `policy ${name}`;
      const own = changes.filter(({ before, after }) => has(before, key) || has(after, key));
      find('#history-title').textContent = `History of ${name}`;
      const items = own.map((change) => drawChange(change, key));
      const nothing = h('li', { class: 'hint' }, 'No change since the node started.');
      find('ol', dialog).replaceChildren(...(items.length === 0 ? [nothing] : items));
      open();
    },
  };
}

/** @param {unknown} values @param {string} key */
function has(values, key) {
  return typeof values === 'object' && values !== null && Object.hasOwn(values, key);
}

import { find, h, idOf } from './dom.js';
import { clock } from './format.js';

/** @typedef {import('../../server/http/api/node-events.js').NodeEvent} NodeEvent */

const MAX_SHOWN = 200;

/** Lists the events of this node, the newest first. */
export function createFeed() {
  const log = find('#feed');
  const list = find('ol', log);
  const none = find('p', log);
  /** @type {ReadonlyMap<string, string>} */
  let states = new Map();

  /** @param {Pick<NodeEvent, 'atMs' | 'level' | 'text'>} event */
  function add({ atMs, level, text }) {
    none.hidden = true;
    const time = h('time', { datetime: new Date(atMs).toISOString() }, clock(atMs));
    const warns = level === 'warn' ? h('strong', { class: 'warns' }, 'warning') : undefined;
    list.prepend(h('li', { class: level }, time, ' ', warns, warns && ' ', idOf(text)));
    while (list.children.length > MAX_SHOWN) list.lastElementChild?.remove();
  }

  return {
    add,
    /**
     * Adds the changes of state that this page sees, as the node makes no event of a suspicion.
     * @param {import('../../server/http/api/cluster-view.js').ClusterDescription['members']} members
     */
    compare(members) {
      for (const { id, state } of members) {
        const before = states.get(id);
        if (before === undefined || before === state) continue;
        const level = state === 'suspect' || state === 'dead' ? 'warn' : 'info';
        add({ atMs: Date.now(), level, text: `${id} is ${state}, was ${before}` });
      }
      states = new Map(members.map(({ id, state }) => [id, state]));
    },
    /** From now on, screen readers announce new events. Those of the past would be too many. */
    announce: () => log.setAttribute('aria-live', 'polite'),
  };
}

import { ask, messageOf } from './api.js';
import { find, h, idOf, setText } from './dom.js';
import { long, plural } from './format.js';

/** @typedef {import('../../policy/policy.js').PolicyText} PolicyText */

/** @param {any} limit */
function limitText({ limit, window, burst, algorithm }) {
  const per = typeof window === 'number' ? long(window) : window;
  const more = [
    ...(burst === undefined ? [] : [`burst ${burst}`]),
    ...(algorithm === 'sliding-window' ? ['sliding window'] : []),
  ];
  return `${limit} per ${per}${more.length === 0 ? '' : ` (${more.join(', ')})`}`;
}

/**
 * @param {any} policy limits as people write them
 * @returns {string}
 */
function limitsText(policy) {
  if (policy.tiers !== undefined) {
    const tiers = Object.entries(policy.tiers).map(([name, limits]) => `${name}: ${limitsText(limits)}`);
    return tiers.join('; ');
  }
  return (policy.limits ?? [policy]).map(limitText).join(' and ');
}

/** @param {any} policy */
function optionsOf({ shadow, adaptive, onUnavailable, durability, defaultTier }) {
  return [
    ...(shadow === true ? [h('span', { class: 'badge shadow' }, 'shadow')] : []),
    ...(adaptive === undefined ? [] : [h('span', { class: 'badge' }, 'adaptive')]),
    ...(onUnavailable === undefined ? [] : [h('span', { class: 'badge' }, `unavailable: ${onUnavailable}`)]),
    ...(durability === undefined ? [] : [h('span', { class: 'badge' }, durability)]),
    ...(defaultTier === undefined ? [] : [h('span', { class: 'badge' }, `default: ${defaultTier}`)]),
  ];
}

/**
 * Lists the policies, with a row for each that the filter lets through.
 * @param {{ edit: (name: string) => void, history: (name: string) => void, isAdmin: () => boolean }} actions
 */
export function createPolicies({ edit, history, isAdmin }) {
  const body = find('tbody', find('#policy-table'));
  const filter = /** @type {HTMLInputElement} */ (find('#policy-search'));
  const counted = find('#policy-count');
  /** @type {readonly [string, PolicyText][]} */
  let policies = [];
  let drawn = '';

  function draw() {
    const wanted = filter.value.trim().toLowerCase();
    const shown = policies.filter(([name]) => name.toLowerCase().includes(wanted));
    const amount = plural(policies.length, 'policy').replace('policys', 'policies');
    setText(counted, shown.length === policies.length ? amount : `${shown.length} of ${amount}`);
    const next = JSON.stringify([shown, isAdmin()]);
    if (next === drawn) return;
    drawn = next;
    body.replaceChildren(...shown.map(([name, policy]) => rowOf(name, policy)));
  }

  /** @param {string} name @param {PolicyText} policy */
  function rowOf(name, policy) {
    const button = (/** @type {string} */ label, /** @type {(name: string) => void} */ act) =>
      h('button', { type: 'button', 'aria-label': `${label} ${name}`, click: () => act(name) }, label);
    const change = isAdmin()
      ? h('td', { class: 'actions' }, button('Edit', edit), button('History', history))
      : undefined;
    return h(
      'tr',
      {},
      h('th', { scope: 'row' }, idOf(name)),
      h('td', { class: 'limits' }, limitsText(policy)),
      h('td', {}, ...optionsOf(policy)),
      change,
    );
  }

  filter.addEventListener('input', draw);
  find('#policy-filter').addEventListener('submit', (event) => event.preventDefault());
  return {
    draw,
    names: () => policies.map(([name]) => name),
    async refresh() {
      try {
        const { json } = await ask('v1/policies');
        policies = Object.entries(json.policies);
        find('#policy-names').replaceChildren(...policies.map(([name]) => h('option', { value: name })));
        draw();
      } catch (error) {
        setText(counted, messageOf(error));
      }
    },
  };
}

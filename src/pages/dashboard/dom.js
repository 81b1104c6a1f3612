/** A handler of an event, or the value of an attribute; `false` and `undefined` leave the attribute out. */
/** @typedef {string | number | boolean | undefined | ((event: Event) => void)} Given */
/** @typedef {Node | string | number | undefined} Child */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Creates an HTML element. Every text becomes a text node, so nothing from the network is ever read as HTML.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Readonly<Record<string, Given>>} [given] attributes, and handlers by the name of their event
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, given, children);
  return element;
}

/**
 * Creates an SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Readonly<Record<string, Given>>} [given]
 * @param {Child[]} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function s(tag, given = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  fill(element, given, children);
  return element;
}

/**
 * @param {Element} element
 * @param {Readonly<Record<string, Given>>} given
 * @param {readonly Child[]} children
 */
function fill(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== undefined).map((child) => toNode(child)));
}

/** @param {Node | string | number} child */
function toNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

/**
 * Finds an element that the page has.
 * @template {Element} [Found=HTMLElement]
 * @param {string} selector
 * @param {ParentNode} [within]
 * @returns {Found}
 */
export function find(selector, within = document) {
  const found = within.querySelector(selector);
  if (found === null) throw new Error(`the page has no ${selector}`);
  return /** @type {Found} */ (/** @type {unknown} */ (found));
}

/**
 * An id from the network, isolated so that its writing direction reorders nothing around it.
 * @param {string} text
 */
export function idOf(text) {
  return h('bdi', { class: 'id', title: text }, text);
}

/**
 * A link to the address that a member gave, if that is an address of the web; else only its text.
 * @param {string | undefined} url
 * @param {Child} label
 * @returns {Child}
 */
export function linkTo(url, label) {
  const parsed = url !== undefined && URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !['http:', 'https:'].includes(parsed.protocol)) return label;
  return h('a', { href: new URL('dashboard', parsed).href, rel: 'noopener noreferrer' }, label);
}

/**
 * Changes the text of a node only if it differs, so that a selection stays.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Whether somebody points at the element or has the focus in it. Its content then stays where it is. */
export function isInUse(/** @type {Element} */ element) {
  return element.matches(':focus-within') || (matchMedia('(hover: hover)').matches && element.matches(':hover'));
}

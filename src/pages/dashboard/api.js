/** An answer with a status that is no success. */
export class Problem extends Error {
  /**
   * @param {number} status 0 if the node did not answer
   * @param {string} message one sentence
   * @param {string} [code] of the problem, if the node named one
   */
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @typedef {object} Sent
 * @property {string} [method]
 * @property {unknown} [body] is sent as JSON
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/** The token, in memory only. The page never stores it. */
let token = '';

/** @param {string} next */
export function useToken(next) {
  token = next;
}

/**
 * Sends a request to this node and returns a successful answer.
 * @param {string} path relative to the page, so that it works below any prefix of a proxy
 * @param {Sent} [sent]
 * @returns {Promise<Response>}
 * @throws {Problem}
 */
export async function open(path, { method = 'GET', body, headers = {}, signal } = {}) {
  const all = new Headers(headers);
  if (token !== '') all.set('Authorization', `Bearer ${token}`);
  if (body !== undefined) all.set('Content-Type', 'application/json');
  /** @type {RequestInit} */
  const init = { method, headers: all, cache: 'no-store', credentials: 'omit', redirect: 'error' };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal !== undefined) init.signal = signal;
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted === true) throw error;
    throw new Problem(0, 'This node does not answer.');
  }
  if (response.ok) return response;
  throw await problemOf(response);
}

/**
 * Sends a request and returns the JSON of the answer with its version.
 * @template [T=any]
 * @param {string} path
 * @param {Sent} [sent]
 * @returns {Promise<{ json: T, etag: string }>}
 * @throws {Problem}
 */
export async function ask(path, sent) {
  const response = await open(path, sent);
  const text = await response.text();
  return { json: text === '' ? undefined : JSON.parse(text), etag: response.headers.get('ETag') ?? '' };
}

/** @param {Response} response */
async function problemOf(response) {
  const { status } = response;
  try {
    const { title, detail, field, expected, code } = await response.json();
    const more = detail ?? (expected === undefined ? undefined : `${field ?? 'expected'}: ${expected}`);
    return new Problem(status, more === undefined ? `${title}.` : `${title}: ${more}.`, code);
  } catch {
    return new Problem(status, `The node answered with status ${status}.`);
  }
}

/**
 * The address of a client.
 * @param {string} clientId
 * @param {string} [rest]
 * @throws {Problem} for an id that no browser can send in an address
 */
export function clientPath(clientId, rest = '') {
  if (clientId === '.' || clientId === '..')
    throw new Problem(0, 'A browser cannot send this id in an address. Use the command "tokenring describe".');
  if (!clientId.isWellFormed()) throw new Problem(0, 'This id is not well-formed Unicode.');
  return `v1/clients/${encodeURIComponent(clientId)}${rest}`;
}

/** What to tell a person about a failure. @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

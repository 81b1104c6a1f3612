import { messageOf, open, Problem } from './api.js';

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5_000;
/** A sample comes every second. A stream that is silent for so long is dead. */
const SILENT_MS = 5_000;
/** A page that nobody has looked at for so long stops reading. */
const HIDDEN_MS = 60_000;

/**
 * @typedef {object} Handlers
 * @property {(type: string, json: any) => void} message
 * @property {(state: 'live' | 'lost' | 'refused' | 'hidden', why?: string) => void} state
 */

/**
 * Reads `/v1/events` for as long as the page is open. `EventSource` cannot send a token, so this is `fetch`. A lost
 * stream is opened again with the id of the last event.
 * @param {Handlers} handlers
 * @returns {{ restart: () => void }} `restart` opens the stream again at once, such as with another token
 */
export function readStream({ message, state }) {
  let lastId = '';
  let abort = new AbortController();
  let retryMs = FIRST_RETRY_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let hiding;

  async function read() {
    const { signal } = abort;
    try {
      const headers = { Accept: 'text/event-stream', ...(lastId !== '' && { 'Last-Event-ID': lastId }) };
      const { body } = await open('v1/events', { headers, signal });
      if (body === null) throw new Problem(0, 'This node does not answer.');
      state('live');
      await readLines(body.pipeThrough(new TextDecoderStream()).getReader(), take, silence());
      again('lost', 'The stream has ended.');
    } catch (error) {
      if (signal.aborted && signal.reason === 'replaced') return;
      const status = error instanceof Problem ? error.status : 0;
      const isRefused = status === 401 || status === 403;
      again(isRefused ? 'refused' : 'lost', signal.aborted ? 'The node is silent.' : messageOf(error));
    }
  }

  /** Calls `abort` unless it is called again in time. */
  function silence() {
    const current = abort;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let silent;
    return (/** @type {boolean} */ goesOn) => {
      clearTimeout(silent);
      if (goesOn) silent = setTimeout(() => current.abort('silent'), SILENT_MS);
    };
  }

  /**
   * @param {'lost' | 'refused'} kind
   * @param {string} why
   */
  function again(kind, why) {
    state(kind, why);
    // With the same token, a refusal stays one.
    if (kind === 'refused') return;
    timer = setTimeout(restart, retryMs);
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  }

  /** @param {Readonly<Record<string, string>>} fields */
  function take({ id, event, data }) {
    retryMs = FIRST_RETRY_MS;
    if (id !== undefined) lastId = id;
    if (event !== undefined && data !== undefined) message(event, JSON.parse(data));
  }

  function stop() {
    clearTimeout(timer);
    abort.abort('replaced');
    abort = new AbortController();
  }

  function restart() {
    stop();
    if (document.hidden && hiding === undefined) return state('hidden');
    void read();
  }

  document.addEventListener('visibilitychange', () => {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => {
        hiding = undefined;
        stop();
        state('hidden');
      }, HIDDEN_MS);
    } else {
      if (hiding === undefined) restart();
      hiding = undefined;
    }
  });
  void read();
  return { restart };
}

/**
 * Reads server-sent events until the stream ends.
 * @param {ReadableStreamDefaultReader<string>} reader
 * @param {(fields: Readonly<Record<string, string>>) => void} take
 * @param {(goesOn: boolean) => void} heard
 */
async function readLines(reader, take, heard) {
  let rest = '';
  try {
    for (;;) {
      heard(true);
      const { done, value } = await reader.read();
      if (done) return;
      const messages = (rest + value).split('\n\n');
      rest = messages.pop() ?? '';
      for (const one of messages) take(Object.fromEntries(one.split('\n').map(fieldOf)));
    }
  } finally {
    heard(false);
  }
}

/**
 * @param {string} line
 * @returns {[string, string]}
 */
function fieldOf(line) {
  const colon = line.indexOf(':');
  return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).trimStart()];
}

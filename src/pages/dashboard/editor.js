import { ask, Problem } from './api.js';
import { createDialog, drawDiff, textOf } from './dialogs.js';
import { find } from './dom.js';

/**
 * What is edited: a policy, or an override or tier of a client.
 * @typedef {object} Subject
 * @property {string} title
 * @property {string | ((name: string) => string)} path of the API; a function of the name for something new
 * @property {readonly string[]} own fields of an answer that the path says already
 * @property {unknown} template what a new one looks like
 * @property {boolean} [isNew] whether its name is to be entered
 */

const STALE =
  'Somebody changed the policies after you opened this. Nothing was saved. Below is what your text changes in the ' +
  'newer version that is in force now; save again, or cancel.';

/**
 * Edits JSON. The first press of the button shows what changes, the second saves it, if nobody has changed the
 * policies in between.
 * @param {(question: import('./dialogs.js').Question) => void} confirm
 * @param {(message: string) => void} done
 */
export function createEditor(confirm, done) {
  const { dialog, open, close, complain } = createDialog('editor', submit);
  const text = /** @type {HTMLTextAreaElement} */ (find('#editor-text'));
  const name = /** @type {HTMLInputElement} */ (find('#editor-name'));
  const review = find('[data-review]', dialog);
  const remove = find('[data-remove]', dialog);
  const button = find('[type=submit]', dialog);
  /** @type {Subject | undefined} */
  let subject;
  /** The text in force, and its version; `undefined` if there is nothing yet. */
  /** @type {{ text: string, etag: string } | undefined} */
  let base;
  /** The text whose changes are shown. */
  /** @type {string | undefined} */
  let reviewed;

  function path() {
    if (subject === undefined) throw new Error('nothing is edited');
    return typeof subject.path === 'string' ? subject.path : subject.path(name.value.trim());
  }

  /** @param {boolean} isShown */
  function showReview(isShown) {
    review.hidden = !isShown;
    button.textContent = isShown ? 'Save' : 'Review changes';
    reviewed = isShown ? text.value : undefined;
    if (!isShown) return;
    find('.diff', dialog).replaceChildren(...drawDiff(base?.text ?? '', textOf(parse(text.value))));
    review.scrollIntoView({ block: 'nearest' });
  }

  /** Reads what is in force. @returns its text, if there is something */
  async function read() {
    try {
      const { json, etag } = await ask(path());
      const own = new Set(['version', ...(subject?.own ?? [])]);
      const fields = Object.entries(json).filter(([field]) => !own.has(field));
      base = { text: textOf(Object.fromEntries(fields)), etag };
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      base = undefined;
    }
    remove.hidden = base === undefined;
    return base?.text;
  }

  const condition = () => {
    /** @type {Record<string, string>} */
    const headers = base === undefined ? { 'If-None-Match': '*' } : { 'If-Match': base.etag };
    return headers;
  };

  /** @param {unknown} error */
  async function showNewer(error) {
    if (!(error instanceof Problem) || error.status !== 412) throw error;
    await read();
    showReview(true);
    throw new Problem(412, STALE);
  }

  async function submit() {
    const value = parse(text.value);
    if (subject?.isNew === true && name.value.trim() === '') throw new Problem(0, 'Name: enter one.');
    if (reviewed !== text.value) return showReview(true);
    await ask(path(), { method: 'PUT', body: value, headers: condition() }).catch(showNewer);
    close();
    done(`Saved: ${subject?.title ?? ''}${subject?.isNew === true ? ` ${name.value.trim()}` : ''}.`);
  }

  text.addEventListener('input', () => showReview(false));
  remove.addEventListener('click', () => {
    const [title, at, headers] = [subject?.title ?? '', path(), condition()];
    /** Asks, and asks again if the policy is in use. @param {string} text @param {string} yes @param {string} query */
    const askToDelete = (text, yes, query) =>
      confirm({
        title: `Delete: ${title}?`,
        text,
        yes,
        async act() {
          try {
            await ask(`${at}${query}`, { method: 'DELETE', headers });
          } catch (error) {
            if (!(error instanceof Problem) || error.code !== 'policy_in_use') return showNewer(error);
            askToDelete(error.message, 'Delete it nevertheless', '?force=true');
            return false;
          }
          close();
          done(`Deleted: ${title}.`);
          return true;
        },
      });
    askToDelete('All nodes apply this at once.', 'Delete', '');
  });

  /** @param {Subject} next */
  return async (next) => {
    subject = next;
    base = undefined;
    name.value = '';
    find('#editor-title').textContent = next.title;
    find('[data-name]', dialog).hidden = next.isNew !== true;
    remove.hidden = true;
    text.value = textOf(next.template);
    showReview(false);
    if (next.isNew !== true) text.value = (await read()) ?? text.value;
    open();
    complain('');
    (next.isNew === true ? name : text).focus();
  };
}

/**
 * @param {string} text
 * @returns {unknown}
 * @throws {Problem}
 */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem(0, `This is not JSON: ${error instanceof Error ? error.message : ''}`);
  }
}

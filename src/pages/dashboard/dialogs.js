import { messageOf } from './api.js';
import { find, h } from './dom.js';
import { diffLines } from './diff.js';

/**
 * Prepares a dialog: Escape and its buttons `data-cancel` close it, and `submit` is called for its form. A failure of
 * `submit` appears in the dialog, which stays open.
 * @param {string} id
 * @param {() => Promise<void> | void} submit
 */
export function createDialog(id, submit) {
  const dialog = /** @type {HTMLDialogElement} */ (find(`#${id}`));
  const form = /** @type {HTMLFormElement} */ (find('form', dialog));
  const error = dialog.querySelector('.error');
  let isBusy = false;

  /** @param {string} text */
  function complain(text) {
    if (error !== null) error.textContent = text;
  }

  for (const button of dialog.querySelectorAll('[data-cancel]')) button.addEventListener('click', () => dialog.close());
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    complain('');
    void Promise.resolve()
      .then(submit)
      .catch((failure) => complain(messageOf(failure)))
      .finally(() => (isBusy = false));
  });
  return {
    dialog,
    complain,
    open() {
      complain('');
      if (!dialog.open) dialog.showModal();
    },
    close: () => dialog.close(),
  };
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} yes
 * @property {() => Promise<boolean | void>} act resolves with `false` if another question has taken its place
 */

/** Asks before it acts. */
export function createConfirmation() {
  /** @type {Question | undefined} */
  let question;
  const { dialog, open, close } = createDialog('confirm-dialog', async () => {
    if ((await question?.act()) !== false) close();
  });
  return (/** @type {Question} */ next) => {
    question = next;
    find('#confirm-title').textContent = next.title;
    find('#confirm-text').textContent = next.text;
    find('[type=submit]', dialog).textContent = next.yes;
    open();
    // The safe answer has the focus.
    find('[data-cancel]', dialog).focus();
  };
}

/**
 * A value as people edit it.
 * @param {unknown} value `undefined` and `null` are nothing
 */
export function textOf(value) {
  return value === undefined || value === null ? '' : JSON.stringify(value, null, 2);
}

const SIGNS = { same: ' ', removed: '−', added: '+' };

/**
 * @param {string} before
 * @param {string} after
 * @returns {Node[]}
 */
export function drawDiff(before, after) {
  const lines = diffLines(before, after);
  if (lines.every(({ kind }) => kind === 'same')) return [h('span', { class: 'hint' }, 'No change.')];
  return lines.map(({ kind, line }) => {
    const tag = kind === 'added' ? 'ins' : kind === 'removed' ? 'del' : 'span';
    return h(tag, { class: `line ${kind}` }, `${SIGNS[kind]} ${line}\n`);
  });
}

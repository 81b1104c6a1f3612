// Starts the dashboard: the stream of this node feeds the pictures and tables, and the API answers the rest.
import { ask, messageOf, Problem, useToken } from './api.js';
import { createAudit } from './audit.js';
import { createCharts } from './charts.js';
import { createClient } from './client.js';
import { createConfirmation, createDialog } from './dialogs.js';
import { find, setText } from './dom.js';
import { createEditor } from './editor.js';
import { createFeed } from './feed.js';
import { createMembers } from './members.js';
import { createPolicies } from './policies.js';
import { createSampler } from './rates.js';
import { createRing } from './ring.js';
import { readStream } from './stream.js';
import { createTheme } from './theme.js';
import { createTiles } from './tiles.js';
import { createTop } from './top.js';

/** Several events come together, such as when a member leaves. One look at the cluster serves all of them. */
const EVENTS_TOGETHER_MS = 100;

/** @type {ReturnType<typeof createCharts> | undefined} */
let charts;
createTheme(() => charts?.redraw());
// The page paints what its HTML has before it begins to work. A tab that nobody looks at does neither.
await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

let isAdmin = false;
let isLive = false;
const notice = find('#notice');
const connection = find('#connection');

/** @param {string} text */
function tell(text) {
  notice.hidden = false;
  setText(notice, text);
}

const sampler = createSampler();
const ring = createRing();
const showTiles = createTiles();
const showMembers = createMembers();
const plots = createCharts();
charts = plots;
const feed = createFeed();
const audit = createAudit();
const confirm = createConfirmation();
const edit = createEditor(confirm, changed);

const policies = createPolicies({
  isAdmin: () => isAdmin,
  history: (name) => audit.showHistory(name),
  edit: (name) => editPolicy(`Policy ${name}`, `v1/policies/${encodeURIComponent(name)}`),
});
const client = createClient({
  mark: ring.mark,
  isAdmin: () => isAdmin,
  policies: policies.names,
  edit,
  confirm,
  done: changed,
});
const top = createTop(
  (clientId) => {
    client.search(clientId);
    find('#ring').scrollIntoView();
  },
  () => isLive,
);

/** @param {string} title @param {string | ((name: string) => string)} path */
function editPolicy(title, path) {
  const isNew = typeof path !== 'string';
  edit({ title, path, own: ['name'], template: { limit: 100, window: '1m' }, isNew }).catch((error) =>
    tell(messageOf(error)),
  );
}

find('#new-policy').addEventListener('click', () =>
  editPolicy('New policy', (name) => `v1/policies/${encodeURIComponent(name)}`),
);

/** After a change that this page made. @param {string} message */
function changed(message) {
  tell(message);
  void policies.refresh();
  void client.refresh();
  refreshAudit();
}

function refreshAudit() {
  if (isAdmin) audit.refresh().catch((error) => tell(messageOf(error)));
}

/** @type {import('./rates.js').Sample | undefined} */
let last;

/** @param {import('./rates.js').Sample} sample */
function show(sample) {
  const hasMoved = last !== undefined && last.cluster.ringChecksum !== sample.cluster.ringChecksum;
  last = sample;
  if (hasMoved) void client.refresh();
  setText(find('#self'), sample.cluster.self);
  feed.compare(sample.cluster.members);
  ring.show(sample.cluster);
  showMembers(sample);
  showTiles(sample);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let look;

/** An event comes before the next sample: what it says shows at once. */
function lookSoon() {
  clearTimeout(look);
  look = setTimeout(() => {
    refreshAudit();
    void policies.refresh();
    ask('v1/cluster')
      .then(({ json }) => last && show({ ...last, cluster: json }))
      .catch(() => undefined);
  }, EVENTS_TOGETHER_MS);
}

const stream = readStream({
  message(type, json) {
    if (type === 'event') {
      feed.add(json);
      lookSoon();
    } else if (type === 'sample') {
      const sample = sampler(json, Date.now());
      show(sample);
      plots.add(sample);
      feed.announce();
    }
  },
  state(state, why = '') {
    isLive = state === 'live';
    const texts = { live: 'Live', lost: 'Not connected', refused: 'Needs a token', hidden: 'Paused' };
    setText(connection, texts[state]);
    connection.className = state;
    if (state === 'lost' || state === 'refused') tell(`${why} ${state === 'lost' ? 'The page tries again.' : ''}`);
    if (state !== 'live') return;
    notice.hidden = true;
    void policies.refresh();
    void top.refresh();
    refreshAudit();
  },
});

const token = /** @type {HTMLInputElement} */ (find('#token'));
const signIn = find('#sign-in');

/** @param {boolean} next */
function setAdmin(next) {
  isAdmin = next;
  for (const part of document.querySelectorAll('[data-admin]')) part.toggleAttribute('hidden', !next);
  for (const part of document.querySelectorAll('[data-guest]')) part.toggleAttribute('hidden', next);
  policies.draw();
  client.drawActions();
}

const tokenDialog = createDialog('token-dialog', async () => {
  useToken(token.value.trim());
  try {
    await audit.refresh();
    setAdmin(true);
  } catch (error) {
    // A token without the role can still read.
    if (!(error instanceof Problem) || error.status !== 403) {
      useToken('');
      throw error;
    }
    tell('This token may read, but not change anything.');
  }
  token.value = '';
  setText(signIn, 'Forget token');
  tokenDialog.close();
  stream.restart();
});

signIn.addEventListener('click', () => {
  if (signIn.textContent !== 'Forget token') return tokenDialog.open();
  useToken('');
  setAdmin(false);
  setText(signIn, 'Enter token');
  stream.restart();
});

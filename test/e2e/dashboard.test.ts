import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { AxeResults } from 'axe-core';
import type { Locator, Page } from 'playwright-core';
import { DURATION_BOUNDS, SOURCES } from '../../src/limits/decide/decision.js';
import type { RunningNode } from '../../src/app/main.js';
import { startChromium, type Chromium, type WatchedPage } from '../support/chromium.js';
import { startStub } from '../support/dashboard-stub.js';
import { allow, call, liveNode, newClient, post } from '../support/http.js';
import { freePorts } from '../support/ports.js';
import { killAll, serve, type Program } from './processes.js';
import { describeWith } from '../support/programs.js';

const TOKEN = 'the-admin-token';
/** A killed node shows in so many ms. */
const SHOWN_MS = 2_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What Chromium itself writes to the console where an answer has an error status. */
const refused = (status: number): RegExp => new RegExp(`^Failed to load resource: .* status of ${status} `);

describeWith('the dashboard in a browser', 'chromium', function () {
  this.timeout(60_000);
  let node: RunningNode;
  let chromium: Chromium;
  let dashboard: WatchedPage;
  let page: Page;
  /** What a test makes the browser complain about. */
  let expected: RegExp[];

  before(async () => {
    execFileSync(process.execPath, ['config/build-pages.js']);
    node = await liveNode('--admin-token', TOKEN);
    chromium = await startChromium();
  });
  after(async () => {
    killAll();
    await chromium.close();
  });
  beforeEach(() => (expected = []));
  afterEach(async function () {
    const { complaints, strangers } = dashboard;
    await dashboard.close();
    if (this.currentTest?.state !== 'passed') return;
    const unexpected = complaints.filter((text) => !expected.some((pattern) => pattern.test(text)));
    expect({ unexpected, strangers }).to.deep.equal({ unexpected: [], strangers: [] });
  });

  async function open(port: number, options?: Parameters<Chromium['open']>[1]): Promise<void> {
    dashboard = await chromium.open(`http://127.0.0.1:${port}/dashboard`, options);
    page = dashboard.page;
    await page.locator('#connection.live').waitFor();
    await page.locator('#members tbody tr').first().waitFor();
  }

  async function signIn(): Promise<void> {
    await page.locator('#sign-in').click();
    await page.locator('#token').fill(TOKEN);
    await page.locator('#token-dialog [type=submit]').click();
    await page.locator('#new-policy').waitFor();
  }

  async function search(clientId: string): Promise<void> {
    await page.locator('#client-id').fill(clientId);
    await page.locator('#search button').click();
    await page.locator('#client .facts dd', { hasText: clientId }).first().waitFor();
  }

  const put = (path: string, value: unknown): ReturnType<typeof call> => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` };
    return call(node, path, { method: 'PUT', headers, body: JSON.stringify(value) });
  };
  const policy = async (name: string): Promise<unknown> => (await call(node, `/v1/policies/${name}`)).json;
  const editor = (): Locator => page.locator('#editor');
  const submit = (): Promise<void> => editor().locator('[type=submit]').click();

  it('draws the ring, its members, charts, top clients, policies, and events', async () => {
    await open(node.port);
    await page.locator('#ring-picture .arc').waitFor();
    expect(await page.locator('#members tbody tr').innerText()).to.match(/active\s+100%/);
    expect(await page.locator('#chart-grid canvas').count()).to.equal(6);
    expect(await page.locator('#top-lists table').count()).to.equal(3);
    await page.locator('#feed li', { hasText: 'joined the ring' }).first().waitFor();
    expect(await page.title()).to.equal('Tokenring');
  });

  it('reads the counters of a report as the node writes them', async () => {
    await open(node.port);
    const known = await page.evaluate("import('/dashboard/rates.js').then((it) => [it.SOURCES, it.BOUNDS_MS])");
    expect(known).to.deep.equal([SOURCES, DURATION_BOUNDS.map((seconds) => seconds * 1_000)]);
  });

  it('updates while it is open: rates, top clients, and policies', async () => {
    const clientId = newClient();
    await open(node.port);
    await put('/v1/policies/shadowed', { limit: 5, window: '1m', shadow: true });
    for (let i = 0; i < 20; i += 1) await allow(node, { clientId, limit: 1, window: '1d' });
    await page.locator('#top-lists table').first().locator('button', { hasText: clientId }).waitFor();
    await page.locator('#feed li', { hasText: 'policies changed: version' }).first().waitFor();
    await page.locator('#policy-table tr', { hasText: 'shadowed' }).locator('.badge.shadow').waitFor();
    await page
      .locator('#tiles .value', { hasText: /^[\d.]+$/ })
      .first()
      .waitFor();
  });

  it('finds a client: its point, owner, successors, and buckets', async () => {
    const clientId = newClient();
    await allow(node, { clientId, limit: 7, window: '1d' });
    await allow(node, { clientId, scope: 'reports', limit: 5, window: '1d' });
    await open(node.port);
    await search(clientId);
    expect(await page.locator('#client .facts').innerText()).to.match(/Point\s+[\d.]+% [\s\S]*Successors\s+none/);
    expect(await page.locator('#client table tbody').innerText()).to.match(/token-bucket\s+1d\s+7\s+6/);
    expect(await page.locator('#client table tbody').innerText()).to.match(/reports\s+–\s+token-bucket\s+1d\s+5\s+4/);
    await page.locator('#ring-picture .point').waitFor();
  });

  it('leads browsers from the root, and nobody else', async () => {
    dashboard = await chromium.open(`http://127.0.0.1:${node.port}/`);
    expect(new URL(dashboard.page.url()).pathname).to.equal('/dashboard');
    for (const accept of ['*/*', 'application/json'])
      expect((await call(node, '/', { headers: { accept } })).status).to.equal(404);
  });

  it('asks for a token where reading needs one, and offers no change to one that may only read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-dashboard-'));
    const sha256 = createHash('sha256').update('reader').digest('hex');
    const tokens = { require: ['read'], tokens: [{ name: 'reader', roles: ['read'], sha256 }] };
    writeFileSync(join(folder, 'tokens.json'), JSON.stringify(tokens));
    const { port } = await liveNode('--admin-token', TOKEN, '--tokens', join(folder, 'tokens.json'));
    rmSync(folder, { recursive: true });
    dashboard = await chromium.open(`http://127.0.0.1:${port}/dashboard`);
    page = dashboard.page;
    expected = [refused(401), refused(403)];
    await page.locator('#connection.refused').waitFor();
    await page.locator('#sign-in').click();
    await page.locator('#token').fill('reader');
    await page.locator('#token-dialog [type=submit]').click();
    await page.locator('#connection.live').waitFor();
    await page.locator('#members tbody tr').first().waitFor();
    expect(await page.locator('#new-policy').isVisible()).to.equal(false);
  });

  describe('with the admin token', () => {
    beforeEach(async () => {
      await put('/v1/policies/edited', { limit: 5, window: '1m' });
      await open(node.port);
      await signIn();
      await page.locator('[aria-label="Edit edited"]').waitFor();
    });

    it('keeps the token in memory only, and refuses a wrong one', async () => {
      expect(JSON.stringify(await page.context().storageState())).not.to.include(TOKEN);
      expect(await page.content()).not.to.include(TOKEN);
      await page.locator('#sign-in').click();
      await page.locator('#new-policy').waitFor({ state: 'hidden' });
      await page.locator('#sign-in').click();
      await page.locator('#token').fill('wrong');
      await page.locator('#token-dialog [type=submit]').click();
      await page.locator('#token-dialog .error', { hasText: 'token' }).waitFor();
      expected = [refused(401)];
    });

    it('edits a policy after it has shown the changes, and has its history', async () => {
      await page.locator('[aria-label="Edit edited"]').click();
      await editor().locator('textarea').fill('{ "limit": 9, "window": "1m" }');
      await submit();
      expect(await editor().locator('del').innerText()).to.equal('−   "limit": 5,\n');
      expect(await editor().locator('ins').innerText()).to.equal('+   "limit": 9,\n');
      expect(await policy('edited')).to.include({ limit: 5 });
      await submit();
      await editor().waitFor({ state: 'hidden' });
      expect(await policy('edited')).to.include({ limit: 9 });
      await page.locator('#changes ins', { hasText: '9' }).first().waitFor({ state: 'attached' });
      await page.locator('[aria-label="History edited"]').click();
      await page.locator('#history ins', { hasText: '"limit": 9' }).waitFor();
    });

    it('refuses a stale edit, says so, and shows the newer version', async () => {
      expected = [refused(412)];
      await page.locator('[aria-label="Edit edited"]').click();
      await editor().locator('textarea').fill('{ "limit": 9, "window": "1m" }');
      await submit();
      await put('/v1/policies/edited', { limit: 77, window: '1m' });
      await submit();
      await editor().locator('.error', { hasText: 'Nothing was saved' }).waitFor();
      expect(await editor().locator('del').innerText()).to.include('"limit": 77');
      expect(await policy('edited')).to.include({ limit: 77 });
      await submit();
      await editor().waitFor({ state: 'hidden' });
      expect(await policy('edited')).to.include({ limit: 9 });
    });

    it('shows what is wrong with a policy, and makes and deletes one', async () => {
      expected = [refused(400)];
      await page.locator('#new-policy').click();
      await editor().locator('#editor-name').fill('made');
      for (const [text, error] of [
        ['{', 'This is not JSON'],
        ['{ "limit": -1, "window": "1m" }', 'limit'],
      ] as const) {
        await editor().locator('textarea').fill(text);
        await submit();
        if (text !== '{') await submit();
        await editor().locator('.error', { hasText: error }).waitFor();
      }
      await editor().locator('textarea').fill('{ "limit": 1, "window": "1m" }');
      await submit();
      await submit();
      await page.locator('[aria-label="Edit made"]').click();
      await editor().locator('[data-remove]').click();
      await page.locator('#confirm-dialog [type=submit]').click();
      await editor().waitFor({ state: 'hidden' });
      expect((await call(node, '/v1/policies/made')).status).to.equal(404);
    });

    it('asks again before it deletes a policy that is in use', async () => {
      expected = [refused(409)];
      await put('/v1/policies/used', { limit: 5, window: '1m' });
      await post(node, '/v1/allow', { clientId: newClient(), policy: 'used' });
      await page.locator('[aria-label="Edit used"]').click();
      await editor().locator('[data-remove]').click();
      await page.locator('#confirm-dialog [type=submit]', { hasText: /^Delete$/ }).click();
      await page.locator('#confirm-text', { hasText: '1 request in the last hour' }).waitFor();
      expect((await call(node, '/v1/policies/used')).status).to.equal(200);
      await page.locator('#confirm-dialog [type=submit]', { hasText: 'nevertheless' }).click();
      await editor().waitFor({ state: 'hidden' });
      expect((await call(node, '/v1/policies/used')).status).to.equal(404);
    });

    it('gives a client a tier and an override, and resets it', async () => {
      const clientId = newClient();
      expected = [refused(404)];
      await put('/v1/policies/tiered', { tiers: { pro: { limit: 5, window: '1m' } }, defaultTier: 'pro' });
      await allow(node, { clientId, policy: 'edited' });
      await search(clientId);
      await page.locator('#override-policy').selectOption('edited');
      for (const [button, text, path] of [
        ['Override …', '{ "limit": 44 }', 'overrides/edited'],
        ['Tier …', '{ "tier": "pro" }', 'tier'],
      ] as const) {
        await page.locator('#client-actions button', { hasText: button }).click();
        await editor().locator('textarea').fill(text);
        await submit();
        await submit();
        await editor().waitFor({ state: 'hidden' });
        expect((await call(node, `/v1/clients/${clientId}/${path}`)).json).to.include(JSON.parse(text));
      }
      await page.locator('#client-actions button', { hasText: 'Reset …' }).click();
      await page.locator('#confirm-dialog [data-cancel]').click();
      expect(await page.locator('#client tbody tr').count()).to.equal(1);
      await page.locator('#client-actions button', { hasText: 'Reset …' }).click();
      await page.locator('#confirm-dialog [type=submit]').click();
      await page.locator('#client', { hasText: 'No bucket' }).waitFor();
    });
  });

  it(`shows within ${SHOWN_MS} ms that a node was killed, and that it is back`, async function () {
    // A machine that is busy with other things notices a death late.
    this.retries(2);
    const ports = await freePorts(3);
    const peers = ports.map((port) => `127.0.0.1:${port}`).join(',');
    const start = (port: number): Promise<Program & { port: number }> =>
      serve('--peer-port', String(port), '--peers', peers, '--audit-log', '/dev/null');
    const [first, , killed] = await Promise.all(ports.map(start));
    expected = [];
    await open(first!.port);
    const row = page.locator('#members tr', { hasText: `127.0.0.1:${ports[2]}` });
    const arcs = (count: number): Promise<void> => page.locator(`#ring-picture .arc >> nth=${count - 1}`).waitFor();
    await row.locator('.state.active').waitFor();
    await arcs(3);
    killed!.child.kill('SIGKILL');
    await row.locator('.state:not(.active)').waitFor({ timeout: SHOWN_MS });
    await arcs(2);
    await page.locator('#feed li', { hasText: `127.0.0.1:${ports[2]} left the ring` }).waitFor();
    await page.locator('#feed li', { hasText: `127.0.0.1:${ports[2]} is suspect` }).waitFor();
    await start(ports[2]!);
    await row.locator('.state.active').waitFor({ timeout: SHOWN_MS });
    await arcs(3);
    killAll();
  });

  it('connects again by itself, and gets the events of the time in between', async () => {
    const [port, peerPort] = await freePorts(2);
    const start = (): ReturnType<typeof serve> =>
      serve('--port', String(port), '--peer-port', String(peerPort), '--audit-log', '/dev/null');
    const { child, ended } = await start();
    await open(port!);
    // A killed node refuses, resets, or leaves an answer empty or unfinished, wherever a request happens to be.
    expected = [/^Failed to load resource: net::ERR_/];
    child.kill('SIGKILL');
    await ended;
    await page.locator('#connection.lost').waitFor();
    await start();
    await page.locator('#connection.live').waitFor();
    await page.locator('#feed li >> nth=2').waitFor();
    killAll();
  });

  describe('of a strange cluster', () => {
    const SCRIPT = '"><img src=x onerror="window.hurt=1"><script>window.hurt=1</script>';
    const strange = (id: string, url: string, share = 0.5): Parameters<typeof startStub>[0]['members'][number] => {
      return { id, state: 'active', share, version: '0.1.0', url, incarnation: 1, silentMs: 5 };
    };
    let stub: Awaited<ReturnType<typeof startStub>>;
    afterEach(async () => {
      await page.close();
      stub.close();
    });

    async function show(
      stubbed: Parameters<typeof startStub>[0],
      options?: Parameters<Chromium['open']>[1],
    ): Promise<void> {
      stub = await startStub(stubbed);
      await open(Number(new URL(stub.url).port), options);
      await search(stubbed.clientId);
      await signIn();
    }

    it('runs no script in a client id, a policy name, or the address of a member', async () => {
      const url = 'javascript:window.hurt=1';
      await show({
        members: [strange(SCRIPT, url), strange(`b${SCRIPT}`, ` ${url}`)],
        policies: { [SCRIPT]: { limit: 5, window: SCRIPT, onUnavailable: SCRIPT } },
        clientId: SCRIPT,
      });
      for (const button of ['Edit', 'History']) {
        await page.locator('#policy-table button', { hasText: button }).click();
        await page.locator(`dialog[open]`).waitFor();
        await page.keyboard.press('Escape');
      }
      await page.locator('#top-lists button').first().waitFor();
      await page.locator('#changes summary').first().click();
      const hurt =
        'window.hurt ?? document.querySelectorAll("img, #members a, a[href^=javascript], main script").length';
      expect(await page.evaluate(hurt)).to.equal(0);
      expect(await page.locator('#client .facts').innerText()).to.include(SCRIPT);
    });

    /** A client id of 256 bytes. */
    const EMOJI = `${'👩‍👩‍👧‍👦🏳️‍🌈'.repeat(6)}🙂🙂🙂🙂🙂é`;
    const large = (members: number, policies: number): Parameters<typeof startStub>[0] => ({
      members: Array.from({ length: members }, (_, i) => ({
        ...strange(`tokenring-${i}.tokenring-headless.default.svc:9080`, `http://10.0.0.${i}:8080`, 1 / members),
        ...(i === 2 && ({ state: 'suspect' } as const)),
        version: i % 3 === 0 ? '0.1.0' : '0.2.0-rc.1',
      })),
      policies: Object.fromEntries(
        Array.from({ length: policies }, (_, i) => [
          `tenant-${i}.search:v2`,
          { limit: 10 * i, window: '1m', shadow: i % 5 === 0 },
        ]),
      ),
      clientId: EMOJI,
    });

    it('shows 100 members of two versions, 1,000 policies, and an id of 256 bytes, also on a phone', async () => {
      expect(Buffer.byteLength(EMOJI)).to.equal(256);
      await show(large(100, 1_000), { viewport: { width: 360, height: 740 } });
      await page.locator('#ring-picture .arc >> nth=99').waitFor();
      await page.locator('#policy-table tbody tr >> nth=999').waitFor({ state: 'attached' });
      await page.locator('#tiles .more', { hasText: '2 versions' }).waitFor();
      for (const width of [360, 1_280]) {
        await page.setViewportSize({ width, height: 740 });
        const overflow = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';
        expect(await page.evaluate(overflow), `${width} px`).to.equal(0);
      }
      await page.locator('#policy-search').fill('tenant-77');
      await page.locator('#policy-count', { hasText: '11 of 1,000 policies' }).waitFor();
    });

    for (const colorScheme of ['light', 'dark'] as const) {
      it(`has nothing that axe-core calls serious, in the ${colorScheme} theme`, async () => {
        await show(large(4, 6), { colorScheme });
        expect(await violations(page)).to.deep.equal([]);
        for (const button of ['Edit', 'History']) {
          await page.locator('#policy-table button', { hasText: button }).first().click();
          await page.locator('dialog[open]').waitFor();
          expect(await violations(page), button).to.deep.equal([]);
          await page.keyboard.press('Escape');
        }
      });
    }

    it('is usable by keyboard: a link past the head, and a search with the focus on it', async () => {
      await show({ members: [strange('a:1', 'http://a', 1)], policies: {}, clientId: 'x' });
      await page.reload();
      expected = [/ERR_INCOMPLETE_CHUNKED_ENCODING/];
      await page.keyboard.press('Tab');
      expect(await page.evaluate('document.activeElement.textContent')).to.equal('Skip to content');
      await page.keyboard.press('Enter');
      await page.keyboard.press('Tab');
      expect(await page.evaluate('document.activeElement.id')).to.equal('client-id');
      expect(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle')).to.equal('solid');
      await page.keyboard.type('x');
      await page.keyboard.press('Enter');
      await page.locator('#client .facts').waitFor();
    });
  });
});

/** What axe-core finds that is serious or critical. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate<AxeResults>('axe.run()');
  return found
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.slice(0, 3).map(({ html }) => `${id}: ${html.slice(0, 200)}`));
}

import { execFileSync } from 'node:child_process';
import { expect } from 'chai';
import type { Locator } from 'playwright-core';
import type { RunningNode } from '../../src/app/main.js';
import { startChromium, type Chromium, type WatchedPage } from '../support/chromium.js';
import { call, liveNode } from '../support/http.js';
import { describeWith } from '../support/programs.js';

const TOKEN = 'the-admin-token';

describeWith('/docs in a browser', 'chromium', function () {
  this.timeout(120_000);
  let node: RunningNode;
  let chromium: Chromium;
  let docs: WatchedPage;
  before(async () => {
    execFileSync(process.execPath, ['config/build-pages.js']);
    node = await liveNode('--admin-token', TOKEN);
    chromium = await startChromium();
  });
  after(() => chromium.close());
  beforeEach(async () => (docs = await chromium.open(`http://127.0.0.1:${node.port}/docs`)));
  afterEach(async function () {
    const { complaints, strangers } = docs;
    await docs.close();
    if (this.currentTest?.state === 'passed')
      expect({ complaints, strangers }).to.deep.equal({ complaints: [], strangers: [] });
  });

  const operation = (id: string): Locator => docs.page.locator(`[id$="-${id}"]`);

  /** Sends the example of an operation and returns the status that the page shows. */
  async function run(id: string): Promise<string> {
    const one = operation(id);
    await one.locator('.opblock-summary-control').click();
    await one.locator('button.execute').click();
    return one.locator('.live-responses-table .response .response-col_status').first().innerText();
  }

  it('shows every operation of the document, asks nobody else, and breaks no policy', async () => {
    await operation('allow').waitFor();
    const { paths } = (await call(node, '/openapi.json')).json as { paths: Record<string, Record<string, unknown>> };
    const listed = Object.values(paths).flatMap((item) => Object.keys(item).filter((key) => key !== 'parameters'));
    expect(await docs.page.locator('.opblock').count()).to.equal(listed.length);
    expect(await docs.page.title()).to.equal('Tokenring API');
  });

  it('sends an example to the node and shows its decision', async () => {
    expect(await run('allow')).to.match(/^200/);
    expect(await operation('allow').locator('.live-responses-table').innerText()).to.include('"allowed": true');
  });

  it('sends the token that a reader enters, and keeps it in the memory of the page only', async () => {
    await docs.page.locator('.auth-wrapper .authorize').click();
    await docs.page.locator('.auth-container input').fill(TOKEN);
    await docs.page.locator('.auth-btn-wrapper .authorize').click();
    await docs.page.locator('.auth-btn-wrapper .btn-done').click();
    expect(await run('putPolicy')).to.match(/^200/);
    expect((await call(node, '/v1/policies/api')).status).to.equal(200);
    expect(JSON.stringify(await docs.page.context().storageState())).not.to.include(TOKEN);
    await docs.page.reload();
    expect(await docs.page.locator('.auth-wrapper .authorize').getAttribute('class')).to.include('unlocked');
  });

  it('follows the theme of the browser', async () => {
    const background = (): Promise<string> =>
      docs.page.evaluate('getComputedStyle(document.documentElement).backgroundColor');
    await operation('allow').waitFor();
    const light = await background();
    await docs.page.emulateMedia({ colorScheme: 'dark' });
    await docs.page.locator('html.dark-mode').waitFor();
    expect(await background()).not.to.equal(light);
  });
});

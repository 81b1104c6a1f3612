import { expect } from 'chai';
import type { Page } from 'playwright-core';
import type { RunningNode } from '../../src/app/main.js';
import { startChromium, type Chromium } from '../support/chromium.js';
import { describeWith } from '../support/programs.js';
import { allow, liveNode, newClient } from '../support/http.js';

describeWith('a page of another site in a browser', 'chromium', function () {
  this.timeout(60_000);
  let node: RunningNode;
  let chromium: Chromium;
  before(async () => {
    node = await liveNode();
    // The browser's own wall around loopback is off, as not every browser has one.
    chromium = await startChromium(
      '--host-resolver-rules=MAP *.test 127.0.0.1',
      '--disable-features=LocalNetworkAccessChecks',
    );
  });
  after(() => chromium.close());

  /** Opens an empty page of this origin. Its requests go to the address that the browser finds for its name. */
  async function openForeign(origin: string): Promise<Page> {
    const { page } = await chromium.open(`http://127.0.0.1:${node.port}/healthz`);
    await page.route(`${origin}/page`, (route) => route.fulfill({ contentType: 'text/html', body: '<p>hello' }));
    await page.goto(`${origin}/page`);
    expect(await page.evaluate('location.origin')).to.equal(origin);
    return page;
  }

  /** Sends what a page can send. @returns the status and code that the page sees, or `opaque`, or `failed` */
  async function fetchIn(page: Page, url: string, options: object = {}): Promise<unknown> {
    const script = `fetch(${JSON.stringify(url)}, ${JSON.stringify(options)}).then(
      async (it) => it.type === 'opaque' ? 'opaque' : [it.status, (await it.json()).code], () => 'failed')`;
    return page.evaluate(script);
  }

  const jsonPost = (clientId: string): object => ({
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ clientId, limit: 1, window: '1d' }),
  });

  async function isUntouched(clientId: string): Promise<boolean> {
    return (await allow(node, { clientId, limit: 1, window: '1d', peek: true })).remaining === 1;
  }

  it('reads nothing and spends nothing by DNS rebinding', async () => {
    const clientId = newClient();
    const page = await openForeign(`http://rebind.test:${node.port}`);
    expect(await fetchIn(page, '/v1/top')).to.deep.equal([403, 'foreign_host']);
    expect(await fetchIn(page, '/v1/allow', jsonPost(clientId))).to.deep.equal([403, 'foreign_host']);
    expect(await isUntouched(clientId)).to.equal(true);
    await page.context().close();
  });

  it('reads nothing and spends nothing from its own site', async () => {
    const clientId = newClient();
    const page = await openForeign('http://elsewhere.test');
    const at = `http://127.0.0.1:${node.port}`;
    expect(await fetchIn(page, `${at}/v1/top`)).to.equal('failed');
    expect(await fetchIn(page, `${at}/v1/allow`, jsonPost(clientId))).to.equal('failed');
    const simple = { ...jsonPost(clientId), mode: 'no-cors', headers: { 'content-type': 'text/plain' } };
    expect(await fetchIn(page, `${at}/v1/allow`, simple)).to.equal('opaque');
    expect(await isUntouched(clientId)).to.equal(true);
    await page.context().close();
  });

  it('does not keep the pages of the node from asking it', async () => {
    const dashboard = await chromium.open(`http://127.0.0.1:${node.port}/dashboard`);
    const { page, complaints } = dashboard;
    await page.locator('#ring-picture .arc').waitFor();
    const clientId = newClient();
    expect(await fetchIn(page, '/v1/allow', jsonPost(clientId))).to.deep.equal([200, undefined]);
    expect(await isUntouched(clientId)).to.equal(false);
    expect(complaints).to.deep.equal([]);
    await dashboard.close();
  });
});

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { killAll, start } from '../e2e/processes.js';
import { freshDist } from '../support/dist.js';
import { call } from '../support/http.js';
import { assembleImage } from './image-files.js';
import { fetchPages } from './pages.js';

describe('the files of the image', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-image-'));
  after(() => {
    killAll();
    rmSync(folder, { recursive: true, force: true });
  });

  it('are a node that serves its pages and all that they load', async () => {
    freshDist();
    assembleImage(folder);
    const node = start(['dist/esm/cli.js', 'serve', '--port', '0', '--peer-port', '0'], {}, { cwd: folder });
    const port = (await node.line('tokenring ready'))['port'] as number;
    const pages = await fetchPages(async (path) => {
      const { status, text } = await call({ port }, path);
      return { status, body: text };
    });
    expect([...pages].filter(([, status]) => status !== 200)).to.deep.equal([]);
    expect([...pages.keys()]).to.include.members(['/docs/swagger-ui.js', '/dashboard/charts.js', '/openapi.json']);
  });
});

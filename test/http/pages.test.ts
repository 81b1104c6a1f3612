import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { expect } from 'chai';
import { request } from 'undici';
import type { RunningNode } from '../../src/app/main.js';
import { call, expectProblem, liveNode } from '../support/http.js';

const POLICY =
  "default-src 'none';script-src 'self';style-src 'self';img-src 'self' data:;connect-src 'self';" +
  "base-uri 'none';form-action 'none';frame-ancestors 'none'";

describe('the pages of a node', () => {
  let node: RunningNode;
  before(async function () {
    this.timeout(60_000);
    execFileSync(process.execPath, ['config/build-pages.js']);
    node = await liveNode();
  });

  /** The addresses of all files that dist/pages holds for users. */
  const addresses = (): string[] =>
    readdirSync('dist/pages', { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.br'))
      .map((name) => `/${name.replace(/(\/index\.html)?\.br$/, '')}`);

  it('come from the package, each with its type, and may load and call this node alone', async () => {
    expect(addresses()).to.include('/docs');
    for (const path of addresses()) {
      const { status, headers, text } = await call(node, path);
      expect(status, path).to.equal(200);
      const type = path.endsWith('.js') ? 'javascript' : path.endsWith('.css') ? 'css' : 'html';
      expect(headers['content-type'], path).to.equal(`text/${type}; charset=utf-8`);
      expect(headers, path).to.include({
        'content-security-policy': POLICY,
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-resource-policy': 'same-origin',
        'cache-control': 'no-cache',
        vary: 'Accept-Encoding',
      });
      expect(headers['content-length'], path).to.equal(String(Buffer.byteLength(text)));
      expect(await call(node, path, { method: 'HEAD' }), path).to.include({ status: 200, text: '' });
    }
  });

  it('have no script or style in their text, and no address of another host', () => {
    for (const page of readdirSync('src/pages').filter((name) => !name.endsWith('.ts'))) {
      const html = readFileSync(`src/pages/${page}/index.html`, 'utf8');
      expect(html, page).not.to.match(/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|(?:https?:)?\/\/\w/);
    }
  });

  it('are packed as the asker can unpack them', async () => {
    const path = '/docs/swagger-ui.css';
    const plain = (await call(node, path)).text;
    const size = async (accepted: string, encoding: string | undefined): Promise<number> => {
      const { headers } = await call(node, path, { method: 'HEAD', headers: { 'accept-encoding': accepted } });
      expect(headers['content-encoding'], accepted).to.equal(encoding);
      return Number(headers['content-length']);
    };
    expect(await size('gzip, deflate, br, zstd', 'br')).to.be.below(await size('gzip, deflate', 'gzip'));
    expect(await size('deflate', undefined)).to.equal(Buffer.byteLength(plain));
    expect(await size('br;q=0, gzip', 'gzip')).to.be.below(plain.length);
    // Of a long list, 1 KiB is read.
    const unknown = 'x, '.repeat(340);
    expect(await size(`${unknown}br`, 'br')).to.be.below(plain.length);
    expect(await size(`${unknown}x, x, br`, undefined)).to.equal(Buffer.byteLength(plain));
    expect(await size('x'.repeat(2_000), undefined)).to.equal(Buffer.byteLength(plain));
    for (const [encoding, unpack] of [
      ['br', brotliDecompressSync],
      ['gzip', gunzipSync],
    ] as const) {
      const response = await fetchBytes(node, path, encoding);
      expect(unpack(response).toString(), encoding).to.equal(plain);
    }
  });

  it('are not sent again to a browser that has them', async () => {
    const { etag } = (await call(node, '/docs')).headers;
    for (const kept of [etag!, `"x", ${etag!}`, etag!.replace('W/', ''), '*']) {
      const answer = await call(node, '/docs', { headers: { 'if-none-match': kept } });
      expect(answer, kept).to.include({ status: 304, text: '' });
      expect(answer.headers).to.include({ etag: etag!, 'content-security-policy': POLICY });
    }
    expect((await call(node, '/docs', { headers: { 'if-none-match': '"x"' } })).status).to.equal(200);
    expect((await call(node, '/docs/start.js')).headers['etag']).not.to.equal(etag);
  });

  it('have one address each, which takes GET and HEAD', async () => {
    const slash = await call(node, '/docs/');
    expect(slash.status).to.equal(308);
    expect(slash.headers['location']).to.equal('../docs');
    for (const path of addresses()) {
      expectProblem(await call(node, path, { method: 'POST' }), 'method_not_allowed');
    }
    for (const path of ['/docs/x', '/docs/index.html', '/docs/swagger-ui.js.br', '/docs/..%2f..%2fpackage.json'])
      expectProblem(await call(node, path), 'not_found');
  });
});

async function fetchBytes({ port }: RunningNode, path: string, encoding: string): Promise<Buffer> {
  const { body } = await request(`http://127.0.0.1:${port}${path}`, { headers: { 'accept-encoding': encoding } });
  return Buffer.from(await body.arrayBuffer());
}

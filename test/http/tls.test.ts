import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Counters } from '../../src/server/edge/counters.js';
import { HttpServer } from '../../src/server/http/server.js';
import { NO_DECISIONS, readyNode } from '../support/decisions.js';

describe('the public server with a certificate', () => {
  it('speaks HTTPS', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-tls-'));
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    const files = ['-keyout', keyFile, '-out', certFile, '-days', '2'];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files, ...subject], {
      stdio: 'ignore',
    });
    const [key, cert] = [readFileSync(keyFile, 'utf8'), readFileSync(certFile, 'utf8')];
    rmSync(folder, { recursive: true });
    const publicServer = new HttpServer({
      decisions: NO_DECISIONS,
      api: (_req, res) => void res.end('hello'),
      ...readyNode(new Counters()),
      tls: { key, cert },
    });
    const { server } = publicServer;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const text = await new Promise<string>((resolve, reject) => {
      request({ host: '127.0.0.1', servername: 'localhost', port, ca: cert, path: '/' }, (res) => {
        res.on('data', (chunk: Buffer) => resolve(chunk.toString()));
      })
        .on('error', reject)
        .end();
    });
    expect(text).to.equal('hello');
    await publicServer.drain(0, 1_000);
  });
});

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { npmAudit, type Audit } from '../support/npm-audit.js';

interface LockedPackage {
  readonly version?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}

describe('the dependencies', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, LockedPackage>;
  };
  const { dependencies, devDependencies, allowScripts } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
    string,
    Record<string, string>
  >;
  // The package of packages/client is of this repository.
  const locked = Object.entries(packages).filter(
    ([path, { link }]) => path.startsWith('node_modules/') && link !== true,
  );

  it('are pinned, and each file that is installed is known by its hash', () => {
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
      expect(version, name).to.match(/^\d+\.\d+\.\d+$/);
    }
    for (const [path, { integrity }] of locked) expect(integrity, path).to.match(/^sha512-/);
  });

  it('run nothing of their own when they are installed: who would is refused by name', () => {
    const scripted = locked.filter(([, { hasInstallScript }]) => hasInstallScript === true);
    for (const [path] of scripted)
      expect(allowScripts, path).to.have.property(path.replace(/^.*node_modules\//, ''), false);
  });

  it('have no known weakness', async function () {
    this.timeout(120_000);
    const audit = await npmAudit(100_000);
    if (audit.kind === 'untold') {
      this.test!.title += ` (pending: the registry does not tell: ${audit.reason})`;
      return this.skip();
    }
    expect(audit.weaknesses).to.deep.equal([]);
  });

  describe('by an audit', function () {
    this.timeout(120_000);
    /** A registry that answers so what it is asked about weaknesses, and knows no package. */
    async function auditWith(status: number, advisories: unknown): Promise<Audit> {
      const asked: string[] = [];
      const server = createServer((req, res) => {
        const isAudit = req.url!.startsWith('/-/npm/v1/security/');
        if (isAudit) asked.push(req.url!);
        req.resume();
        res.writeHead(isAudit ? status : 404, { 'content-type': 'application/json' });
        res.end(isAudit ? JSON.stringify(advisories) : '{}');
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const cache = mkdtempSync(join(tmpdir(), 'tokenring-npm-'));
      const { port } = server.address() as AddressInfo;
      const registry = [`--registry=http://127.0.0.1:${port}`, `--cache=${cache}`, '--fetch-retries=0'];
      const audit = await npmAudit(100_000, ...registry);
      server.close().closeAllConnections();
      rmSync(cache, { recursive: true });
      expect(asked).not.to.deep.equal([]);
      return audit;
    }

    it('fail where the registry knows a weakness', async () => {
      const advisory = { id: 1, url: 'x', title: 'x', severity: 'high', vulnerable_versions: '*', cwe: [], cvss: {} };
      const audit = await auditWith(200, { express: [advisory] });
      expect(audit.kind === 'told' ? audit.weaknesses.join() : audit).to.match(/^express .*: high$/);
    });

    it('pass where it knows none, and not where it does not tell', async () => {
      expect(await auditWith(200, {})).to.deep.equal({ kind: 'told', weaknesses: [] });
      for (const status of [404, 405, 500]) {
        const audit = await auditWith(status, {});
        expect(audit.kind, String(status)).to.equal('untold');
        expect((audit as { reason: string }).reason).to.include(String(status));
      }
    });
  });
});

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect } from 'chai';

interface LockedPackage {
  readonly version?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}

interface AuditReport {
  readonly message?: string;
  readonly error?: { readonly summary?: string };
  readonly vulnerabilities?: Readonly<Record<string, { readonly severity: string; readonly range: string }>>;
}

describe('the dependencies', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, LockedPackage>;
  };
  const { dependencies, devDependencies, allowScripts } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
    string,
    Record<string, string>
  >;
  const locked = Object.entries(packages).filter(([path]) => path !== '');

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

  it('have no known weakness', function () {
    this.timeout(120_000);
    const { stdout, error } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
      encoding: 'utf8',
      timeout: 100_000,
    });
    const report = (error === undefined && stdout !== '' ? JSON.parse(stdout) : {}) as AuditReport;
    if (report.vulnerabilities === undefined) {
      const reason = error?.message ?? report.message ?? report.error?.summary ?? 'no answer';
      this.test!.title += ` (pending: the registry tells of none: ${reason})`;
      return this.skip();
    }
    const found = Object.entries(report.vulnerabilities).map(
      ([name, { severity, range }]) => `${name} ${range}: ${severity}`,
    );
    expect(found).to.deep.equal([]);
  });
});

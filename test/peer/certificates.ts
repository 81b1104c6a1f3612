import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Identity {
  readonly cert: string;
  readonly key: string;
}

export interface Authority {
  readonly ca: string;
  /** A certificate for these names, as in `IP:127.0.0.1,DNS:localhost`. */
  issue(names: string, subject?: string): Identity;
}

/** Of all authorities of this process: one listener for each would be too many for Node.js, which warns. */
const folders: string[] = [];
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** Makes certificates with the `openssl` command. */
export function createAuthority(name: string): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-ca-'));
  folders.push(folder);
  let issued = 0;

  function make(subject: string, ...more: string[]): Identity {
    const [cert, key] = [join(folder, `${issued}.pem`), join(folder, `${issued}.key`)];
    issued += 1;
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key];
    execFileSync('openssl', ['req', '-x509', ...newKey, '-days', '2', '-subj', subject, '-out', cert, ...more], {
      stdio: 'pipe',
    });
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  }

  const { cert: ca } = make(`/CN=${name}`);
  const signed = [
    '-CA',
    join(folder, '0.pem'),
    '-CAkey',
    join(folder, '0.key'),
    '-addext',
    'basicConstraints=CA:FALSE',
  ];
  return { ca, issue: (names, subject = '/CN=peer') => make(subject, ...signed, '-addext', `subjectAltName=${names}`) };
}

/** The files of one certificate, each replaced in one step. */
export function certificateFiles(
  folder: string,
  name: string,
): { flags: string[]; write(next: Identity, ca: string): void; cert: string } {
  const path = (kind: string): string => join(folder, `${name}-${kind}.pem`);
  const put = (kind: string, text: string): void => {
    writeFileSync(`${path(kind)}.new`, text);
    renameSync(`${path(kind)}.new`, path(kind));
  };
  return {
    flags: ['cert', 'key', 'ca'].flatMap((kind) => [`--${name}-${kind}`, path(kind)]),
    write({ cert, key }, ca) {
      put('cert', cert);
      put('key', key);
      put('ca', ca);
    },
    cert: path('cert'),
  };
}

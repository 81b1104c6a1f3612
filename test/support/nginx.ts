import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startDaemon } from './daemon.js';
import type { Daemon } from './daemon.js';

/** It is no command of users on all systems. */
const NGINX = ['nginx', '/usr/sbin/nginx'].find((path) => spawnSync(path, ['-v'], { stdio: 'ignore' }).status === 0);

/** Why there is none that can ask by sub-request; `undefined` when there is. */
const nginxMissing = ((): string | undefined => {
  if (NGINX === undefined) return 'nginx is missing: apt-get install nginx-light';
  const { stderr } = spawnSync(NGINX, ['-V'], { encoding: 'utf8' });
  return stderr.includes('http_auth_request') ? undefined : 'nginx has no auth_request';
})();

/**
 * Starts a real nginx, and waits until it listens. It says what is in its error log.
 * @param http what stands in the `http` block
 */
export async function startNginx(http: string, port: number): Promise<Daemon> {
  let log = '';
  const nginx = await startDaemon(port, (folder) => {
    log = join(folder, 'error.log');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (kind) => `${kind}_temp_path ${join(folder, kind)};`,
    );
    const main = [`pid ${join(folder, 'pid')};`, 'daemon off;', 'master_process off;', 'events {}'];
    const conf = join(folder, 'nginx.conf');
    writeFileSync(conf, [...main, 'http {', 'access_log off;', ...temporary, http, '}'].join('\n'));
    return [NGINX!, '-p', folder, '-e', log, '-c', conf];
  });
  return { ...nginx, said: () => readFileSync(log, 'utf8') };
}

/** Tests that need it are pending where it is missing, and fail where CI should have it. */
export function describeWithNginx(title: string, tests: () => void): void {
  describe(title, () => {
    if (nginxMissing === undefined) return tests();
    it(`(${nginxMissing})`, function () {
      if (process.env['CI'] === 'true') throw new Error(nginxMissing);
      this.skip();
    });
  });
}

import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/** A real nginx on loopback, in a folder of its own. */
export interface Nginx {
  /** What it has written to its error log. */
  errors(): string;
  /** Kills it and removes its folder. */
  remove(): Promise<void>;
}

/** It is no command of users on all systems. */
const NGINX = ['nginx', '/usr/sbin/nginx'].find((path) => spawnSync(path, ['-v'], { stdio: 'ignore' }).status === 0);

/** Why there is none that can ask by sub-request; `undefined` when there is. */
const nginxMissing = ((): string | undefined => {
  if (NGINX === undefined) return 'nginx is missing: apt-get install nginx-light';
  const { stderr } = spawnSync(NGINX, ['-V'], { encoding: 'utf8' });
  return stderr.includes('http_auth_request') ? undefined : 'nginx has no auth_request';
})();

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts it, and waits until it listens.
 * @param http what stands in the `http` block
 */
export async function startNginx(http: string, port: number): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-nginx-'));
  const log = join(folder, 'error.log');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${join(folder, kind)};`,
  );
  const main = [`pid ${join(folder, 'pid')};`, 'daemon off;', 'master_process off;', 'events {}'];
  const conf = join(folder, 'nginx.conf');
  writeFileSync(conf, [...main, 'http {', 'access_log off;', ...temporary, http, '}'].join('\n'));
  const child = spawn(NGINX!, ['-p', folder, '-e', log, '-c', conf], { stdio: ['ignore', 'ignore', 'pipe'] });
  running.add(child);
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const closed = new Promise<void>((resolve) =>
    child.once('close', () => {
      running.delete(child);
      resolve();
    }),
  );
  const nginx: Nginx = {
    errors: () => readFileSync(log, 'utf8'),
    async remove() {
      child.kill('SIGKILL');
      await closed;
      rmSync(folder, { recursive: true, force: true });
    },
  };
  while (!(await listens(port))) {
    if (child.exitCode !== null) throw new Error(`nginx ended: ${said}`);
    await wait(20);
  }
  return nginx;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
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

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
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

const LUA = ['ndk_http_module', 'ngx_http_lua_module'].map((name) => `/usr/lib/nginx/modules/${name}.so`);

/** Why there is none that runs Lua; `undefined` when there is. */
const nginxLuaMissing =
  nginxMissing ?? (LUA.every((path) => existsSync(path)) ? undefined : 'apt-get install libnginx-mod-http-lua');

/**
 * Starts a real nginx, and waits until it listens. It says what is in its error log.
 * @param http what stands in the `http` block
 * @param runsLua whether it runs Lua
 */
export async function startNginx(http: string, port: number, runsLua = false): Promise<Daemon> {
  let log = '';
  const nginx = await startDaemon(port, (folder) => {
    log = join(folder, 'error.log');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (kind) => `${kind}_temp_path ${join(folder, kind)};`,
    );
    const modules = runsLua ? LUA.map((path) => `load_module ${path};`) : [];
    const main = [...modules, `pid ${join(folder, 'pid')};`, 'daemon off;', 'master_process off;', 'events {}'];
    const conf = join(folder, 'nginx.conf');
    writeFileSync(conf, [...main, 'http {', 'access_log off;', ...temporary, http, '}'].join('\n'));
    return [NGINX!, '-p', folder, '-e', log, '-c', conf];
  });
  return { ...nginx, said: () => readFileSync(log, 'utf8') };
}

/** Tests that need it are pending where it is missing, and fail where CI should have it. */
export function describeWithNginx(title: string, tests: () => void): void {
  describeUnless(nginxMissing, title, tests);
}

/** The same for an nginx that runs Lua. */
export function describeWithNginxLua(title: string, tests: () => void): void {
  describeUnless(nginxLuaMissing, title, tests);
}

function describeUnless(missing: string | undefined, title: string, tests: () => void): void {
  describe(title, () => {
    if (missing === undefined) return tests();
    it(`(${missing})`, function () {
      if (process.env['CI'] === 'true') throw new Error(missing);
      this.skip();
    });
  });
}

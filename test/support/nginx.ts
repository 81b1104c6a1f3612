import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startDaemon, type Daemon } from './daemon.js';
import { NGINX, NGINX_LUA } from './programs.js';

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
    const modules = runsLua ? NGINX_LUA.map((path) => `load_module ${path};`) : [];
    const main = [...modules, `pid ${join(folder, 'pid')};`, 'daemon off;', 'master_process off;', 'events {}'];
    const conf = join(folder, 'nginx.conf');
    writeFileSync(conf, [...main, 'http {', 'access_log off;', ...temporary, http, '}'].join('\n'));
    return [NGINX, '-p', folder, '-e', log, '-c', conf];
  });
  return { ...nginx, said: () => readFileSync(log, 'utf8') };
}

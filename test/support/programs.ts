import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import type { Context, Suite } from 'mocha';

interface Wanted {
  /** The Debian packages that have it. */
  readonly packages: string;
  /** Whether `.ci/run` installs them. The toolchains that it leaves out are hundreds of megabytes. */
  readonly inCi: boolean;
  readonly isThere: () => boolean;
}

const runs =
  (...commands: readonly string[]) =>
  (): boolean =>
    commands.every((command) => spawnSync('sh', ['-c', command], { stdio: 'ignore', timeout: 20_000 }).status === 0);

const from = (packages: string, ...commands: readonly string[]): Wanted => ({
  packages,
  inCi: true,
  isThere: runs(...commands),
});

export const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
/** nginx and HAProxy are no commands of users on all systems. */
const firstOf = (...paths: readonly string[]): string =>
  paths.find((path) => spawnSync(path, ['-v'], { stdio: 'ignore' }).status === 0) ?? paths[0]!;
export const NGINX = firstOf('nginx', '/usr/sbin/nginx');
export const HAPROXY = firstOf('haproxy', '/usr/sbin/haproxy');
export const NGINX_LUA = ['ndk_http_module', 'ngx_http_lua_module'].map((name) => `/usr/lib/nginx/modules/${name}.so`);

/** The library that gives a process another wall clock. */
export function faketimeLibrary(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  return readdirSync('/usr/lib')
    .map((folder) => `/usr/lib/${folder}/faketime/libfaketimeMT.so.1`)
    .find((path) => existsSync(path));
}

/** All programs that tests ask for. */
const PROGRAMS = {
  caddy: from('caddy', 'caddy version'),
  chromium: { packages: 'chromium', inCi: true, isThere: () => existsSync(CHROMIUM) },
  curl: from('curl', 'curl --version'),
  docker: from('docker.io docker-cli docker-compose docker-buildx iptables busybox-static', 'docker compose version'),
  etcd: from('etcd-server etcd-client', 'etcd --version', 'etcdctl version'),
  faketime: { packages: 'faketime', inCi: true, isThere: () => faketimeLibrary() !== undefined },
  git: from('git', 'git --version'),
  go: { ...from('golang-go', 'go version'), inCi: false },
  haproxy: from('haproxy', `${HAPROXY} -v`),
  ip: from('iproute2', 'ip -V'),
  java: { ...from('default-jdk-headless', 'java -version'), inCi: false },
  kubectl: from('kubernetes-client', 'kubectl kustomize --help'),
  'mkfs.ext4': from('e2fsprogs', 'mkfs.ext4 -V'),
  nft: from('nftables', 'nft --version'),
  nginx: from('nginx-light', `${NGINX} -V 2>&1 | grep -q http_auth_request`),
  'nginx with Lua': {
    packages: 'nginx-light libnginx-mod-http-lua',
    inCi: true,
    isThere: () => NGINX_LUA.every((path) => existsSync(path)),
  },
  openssl: from('openssl', 'openssl version'),
  pgrep: from('procps', 'pgrep --version'),
  php: from('php-cli', 'php --version'),
  'php with Redis': from('php-cli php-redis', "php -r 'new Redis();'"),
  prometheus: from('prometheus', 'prometheus --version', 'promtool --version'),
  python3: from('python3', 'python3 --version'),
  'python3 with Redis': from('python3 python3-redis', "/usr/bin/python3 -c 'import redis'"),
  redigo: {
    ...from(
      'golang-go golang-github-gomodule-redigo-dev',
      'go version && test -d /usr/share/gocode/src/github.com/gomodule/redigo',
    ),
    inCi: false,
  },
  ruby: from('ruby', 'ruby --version'),
  'ruby with Redis': from('ruby ruby-redis', `ruby -e 'require "redis"'`),
  rustc: { ...from('rustc', 'rustc --version'), inCi: false },
  script: from('bsdutils', 'script --version | grep -q util-linux'),
  taskset: from('util-linux', 'taskset --version'),
  'valkey-cli': from('valkey-tools', 'valkey-cli --version'),
  'valkey-server': from('valkey-server', 'valkey-server --version'),
  wirefilter: from('vde2', 'command -v wirefilter', 'command -v vde_plug2tap', 'command -v vde_switch'),
} satisfies Readonly<Record<string, Wanted>>;

export type Program = keyof typeof PROGRAMS;

/** The Debian packages of all programs that CI has. */
export const CI_PACKAGES: ReadonlySet<string> = new Set(
  Object.values(PROGRAMS).flatMap(({ packages, inCi }) => (inCi ? packages.split(' ') : [])),
);

const found = new Map<Program, boolean>();

/** @returns which of these programs is missing and how to get it; `undefined` if all are there */
export function missing(...programs: readonly Program[]): string | undefined {
  for (const program of programs) {
    const { isThere, packages } = PROGRAMS[program];
    if (!found.has(program)) found.set(program, isThere());
    if (!found.get(program)) return `${program} is missing: apt-get install ${packages}`;
  }
  return undefined;
}

/**
 * Leaves out a test, or in a hook those of its suite, that need what this machine lacks, and says why. With `CI=true` it
 * fails instead, unless CI does not install the program.
 */
export function need(context: Context, ...programs: readonly Program[]): void {
  const why = missing(...programs);
  if (why === undefined) return;
  if (programs.every((program) => PROGRAMS[program].inCi)) pending(context, why);
  context.test!.title += ` (pending: ${why})`;
  context.skip();
}

/** Leaves out a test, and says why. With `CI=true` the test fails instead. */
export function pending(context: Context, why: string): never {
  if (process.env['CI'] === 'true') throw new Error(why);
  if (context.test !== undefined) context.test.title += ` (pending: ${why})`;
  return context.skip();
}

/** Declares tests that need programs: without them they are pending and say why, or with `CI=true` fail. */
export function describeWith(
  title: string,
  programs: Program | readonly Program[],
  tests: (this: Suite) => void,
): void {
  const names = typeof programs === 'string' ? [programs] : programs;
  describe(title, function () {
    if (missing(...names) === undefined) return tests.call(this);
    it('needs its programs', function () {
      need(this, ...names);
    });
  });
}

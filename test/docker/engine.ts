import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { missing } from '../support/programs.js';

const ROOT = join(import.meta.dirname, '../..');

/** A Docker engine with Compose. */
export interface Engine {
  readonly name: string;
  /** Put before a command line, it runs where published ports are reached. */
  readonly inside: readonly string[];
  /** What Compose publishes the balancer under: `[address:]port`, a free port where the machine is shared with others. */
  readonly publish: string;
  /** Builds docker/Dockerfile; needs no `start`. */
  build(tag: string): Promise<void>;
  start(): Promise<void>;
  /** Whether an image is there, or comes from a registry. */
  has(image: string): Promise<boolean>;
  docker(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ran>;
  /** Runs a program that itself calls `docker`. */
  run(command: string, args: readonly string[]): Promise<Ran>;
  /** Leaves nothing running. */
  stop(): Promise<void>;
  /** The same for a process that is about to end: synchronously. */
  stopNow(): void;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The machine's own engine; else the one that `DOCKER_SANDBOX`, or the script beside the checkout, starts; else why none. */
export function findEngine(): Engine | { readonly missing: string } {
  const answers = (...args: string[]): boolean =>
    spawnSync('docker', args, { stdio: 'ignore', timeout: 10_000 }).status === 0;
  if (missing('docker') === undefined && answers('version')) return machineEngine();
  const sandbox = process.env['DOCKER_SANDBOX'] ?? join(ROOT, '../shared/bin/docker-sandbox');
  try {
    accessSync(sandbox, constants.X_OK);
  } catch {
    return { missing: `no Docker engine with Compose answers, and there is no ${sandbox}` };
  }
  if (process.getuid?.() !== 0) return { missing: `no Docker engine with Compose answers, and ${sandbox} needs root` };
  return sandboxEngine(sandbox);
}

/** Fails with what the program wrote to stderr. */
export async function succeed(running: Promise<Ran>): Promise<string> {
  const { code, stdout, stderr } = await running;
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr.slice(-4_000)}`);
  return stdout;
}

function machineEngine(): Engine {
  const docker: Engine['docker'] = (args, env) => run('docker', args, env);
  return {
    name: "the machine's Docker",
    inside: [],
    publish: '127.0.0.1:',
    async build(tag) {
      await succeed(docker(['build', '-f', 'docker/Dockerfile', '-t', tag, '.']));
    },
    start: () => Promise.resolve(),
    async has(image) {
      if ((await docker(['image', 'inspect', image])).code === 0) return true;
      return (await docker(['pull', '-q', image])).code === 0;
    },
    docker,
    run: (command, args) => run(command, args),
    stop: () => Promise.resolve(),
    stopNow: () => undefined,
  };
}

function sandboxEngine(script: string): Engine {
  let env: Record<string, string> = {};
  const docker: Engine['docker'] = (args, more) => run('docker', args, { ...env, ...more });
  return {
    name: script,
    inside: [script, 'in'],
    publish: '127.0.0.1:8080',
    async build(tag) {
      await succeed(run(script, ['build', '-f', 'docker/Dockerfile', '-t', tag, '.']));
    },
    async start() {
      const said = await succeed(run(script, ['up']));
      env = { DOCKER_HOST: /DOCKER_HOST=(\S+)/.exec(said)![1]! };
    },
    has: async (image) => (await docker(['image', 'inspect', image])).code === 0,
    docker,
    run: (command, args) => run(command, args, env),
    async stop() {
      await succeed(run(script, ['down']));
    },
    stopNow: () => void spawnSync(script, ['down'], { stdio: 'ignore' }),
  };
}

/** Without what mocha and npm tell their children, which the programs here would take for theirs. */
function plainEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS' && !name.toLowerCase().startsWith('npm_')),
  );
}

function run(command: string, args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...plainEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    // Not `close`: an engine that the program started in the background keeps its output open.
    child.on('exit', (code) => setImmediate(() => resolve({ code: code ?? 1, stdout, stderr })));
  });
}

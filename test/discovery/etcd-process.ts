import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../support/ports.js';

/** Whether a process is stopped (`T`), or gone. */
function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) =>
      / [TZX] /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1').replace(/^.*\)/s, '')),
    );
  } catch {
    return true;
  }
}

export interface EtcdMember {
  readonly endpoint: string;
  readonly pid: number;
  readonly isRunning: boolean;
  /** Returns after a SIGSTOP when no thread runs any more: on a busy machine, a thread may still answer. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  kill(): Promise<void>;
  /** Starts the same member again with its data. */
  restart(): void;
}

export interface EtcdCluster {
  readonly members: readonly EtcdMember[];
  readonly endpoints: readonly string[];
  /** Resolves once a write has succeeded. */
  ready(): Promise<void>;
  /** Index of the leader. */
  leader(): Promise<number>;
  post(path: string, body: object, member?: number): Promise<Record<string, unknown>>;
  close(): Promise<void>;
}

export interface EtcdOptions {
  readonly size?: number;
  readonly host?: (index: number) => string;
  /** Additional flags of each member. */
  readonly flags?: readonly string[];
  readonly scheme?: 'http' | 'https';
  /** A prefix of each member's command, to run it in a namespace. */
  readonly within?: (index: number) => readonly string[];
}

/** Starts a real etcd on free ports of this machine. */
export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdCluster> {
  const { size = 1, host = () => '127.0.0.1', flags = [], scheme = 'http', within = () => [] } = options;
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-etcd-'));
  const ports = await freePorts(2 * size);
  const client = (i: number): string => `${scheme}://${host(i)}:${ports[2 * i]!}`;
  const peer = (i: number): string => `http://${host(i)}:${ports[2 * i + 1]!}`;
  const cluster = Array.from({ length: size }, (_, i) => `m${i}=${peer(i)}`).join(',');

  function start(i: number): ChildProcess {
    const args = [
      ['--name', `m${i}`, '--data-dir', join(folder, `m${i}`), '--log-level', 'error', '--logger', 'zap'],
      ['--listen-client-urls', client(i), '--advertise-client-urls', client(i)],
      ['--listen-peer-urls', peer(i), '--initial-advertise-peer-urls', peer(i)],
      ['--initial-cluster', cluster, '--initial-cluster-token', folder, '--unsafe-no-fsync'],
      flags,
    ].flat();
    const [command, ...rest] = [...within(i), 'etcd', ...args] as [string, ...string[]];
    return spawn(command, rest, { stdio: 'ignore' });
  }

  const members = Array.from({ length: size }, (_, i): EtcdMember => {
    let child = start(i);
    return {
      endpoint: client(i),
      get pid() {
        return child.pid!;
      },
      get isRunning() {
        return child.exitCode === null && child.signalCode === null;
      },
      signal(name) {
        child.kill(name);
        while (name === 'SIGSTOP' && !isStopped(child.pid!));
      },
      async kill() {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await exited;
      },
      restart: () => void (child = start(i)),
    };
  });
  const killNow = (): void => {
    for (const { isRunning, pid } of members) if (isRunning) process.kill(pid, 'SIGKILL');
  };
  process.once('exit', killNow);

  async function post(path: string, body: object, member = 0): Promise<Record<string, unknown>> {
    const signal = AbortSignal.timeout(2_000);
    const response = await fetch(members[member]!.endpoint + path, {
      method: 'POST',
      body: JSON.stringify(body),
      signal,
    });
    return (await response.json()) as Record<string, unknown>;
  }

  return {
    members,
    endpoints: members.map(({ endpoint }) => endpoint),
    post,
    async ready() {
      for (let tries = 0; ; tries += 1) {
        try {
          if ('header' in (await post('/v3/kv/put', { key: 'eA==', value: 'eA==' }))) return;
        } catch (error) {
          if (tries > 100) throw error;
        }
        await sleep(100);
      }
    },
    async leader() {
      const said = await Promise.all(
        members.map((_, i) => post('/v3/maintenance/status', {}, i).catch(() => undefined)),
      );
      const ids = said.map((one) => (one?.['header'] as { member_id: string } | undefined)?.member_id);
      const leader = said.map((one) => one?.['leader']).find((id) => id !== undefined && id !== '0');
      return ids.findIndex((id) => id === leader);
    },
    async close() {
      process.off('exit', killNow);
      await Promise.all(members.map((member) => member.kill()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

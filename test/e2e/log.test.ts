import { expect } from 'chai';
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bundledDist } from '../support/dist.js';
import { freePorts } from '../support/ports.js';
import { need } from '../support/programs.js';

/** Without what this process is started with. */
const PLAIN = { PATH: process.env['PATH'] };
const TOKEN = 'admin';
/** Ids of 200 bytes, so that a few hundred changes fill a pipe. */
const longId = (i: number): string => `${i}`.padStart(200, '0');

interface Node {
  readonly child: ChildProcess;
  readonly port: number;
  readonly exited: Promise<number | NodeJS.Signals | null>;
}

const nodes: Node[] = [];

function program(port: number, ...flags: string[]): string[] {
  const args = ['serve', '--port', String(port), '--peer-port', '0', '--policies', 'none', '--admin-token', TOKEN];
  return [join(bundledDist(), 'cli.js'), ...args, ...flags];
}

/** A node whose standard output is this descriptor, ready. */
async function serveTo(stdout: number, ...flags: string[]): Promise<Node> {
  const [port] = await freePorts(1);
  const child = spawn(process.execPath, program(port!, ...flags), { stdio: ['ignore', stdout, 'inherit'], env: PLAIN });
  const exited = new Promise<number | NodeJS.Signals | null>((resolve) =>
    child.on('exit', (code, signal) => resolve(code ?? signal)),
  );
  const node = { child, port: port!, exited };
  nodes.push(node);
  await untilReady(port!);
  return node;
}

async function untilReady(port: number): Promise<void> {
  for (;;) {
    const ready = await get(port, '/readyz').catch(() => undefined);
    if (ready?.status === 200) return;
    await sleep(50);
  }
}

/** A node that does not answer fails the test after 5 s. */
function get(port: number, path: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(5_000) });
}

async function decides(port: number, clientId: string): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/v1/allow`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ clientId, limit: 5, window: '1h' }),
    signal: AbortSignal.timeout(5_000),
  });
  return ((await answer.json()) as { allowed: boolean }).allowed;
}

/** Makes so many changes: each is a line of the audit log. */
async function change(port: number, count: number): Promise<void> {
  for (let done = 0; done < count; done += 50) {
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        fetch(`http://127.0.0.1:${port}/v1/clients/${longId(done + i)}`, {
          method: 'DELETE',
          headers: { authorization: `Bearer ${TOKEN}` },
          signal: AbortSignal.timeout(5_000),
        }),
      ),
    );
    for (const { status } of answers) expect(status).to.equal(204);
  }
}

async function metric(port: number, name: string): Promise<number> {
  const text = await (await get(port, '/metrics')).text();
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
}

async function stop({ child, exited }: Node): Promise<void> {
  const startMs = performance.now();
  child.kill('SIGTERM');
  expect(await exited).to.equal(0);
  expect(performance.now() - startMs).to.be.below(8_000);
}

describe('a node whose log cannot be written', function () {
  this.timeout(60_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
  });
  afterEach(() => {
    for (const { child } of nodes.splice(0)) child.kill('SIGKILL');
    spawnSync('umount', ['--lazy', join(folder, 'disk')], { stdio: 'ignore' });
  });
  after(() => rmSync(folder, { recursive: true }));

  it('decides, counts the lost lines, and stops on SIGTERM', async () => {
    const full = openSync('/dev/full', 'w');
    const node = await serveTo(full);
    closeSync(full);
    expect(await decides(node.port, 'alice')).to.equal(true);
    expect(await metric(node.port, 'tokenring_log_lines_dropped_total')).to.be.at.least(1);
    await stop(node);
  });

  it('decides though nobody reads the pipe of its log', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(pipe, 'w');
    const node = await serveTo(writer);
    // More than the pipe and what waits for it hold together.
    await change(node.port, 5_000);
    expect(await metric(node.port, 'tokenring_log_lines_dropped_total')).to.be.at.least(1);
    expect(await decides(node.port, 'alice')).to.equal(true);
    await stop(node);
    closeSync(writer);
    closeSync(reader);
  });

  it('decides after its terminal has closed', async function () {
    need(this, 'script', 'pgrep');
    const [port] = await freePorts(1);
    // In a session of its own it gets no SIGHUP: its writes fail with EIO.
    const command = `exec setsid -w ${process.execPath} ${program(port!).join(' ')}`;
    const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: 'ignore', env: PLAIN });
    await untilReady(port!);
    terminal.kill('SIGKILL');
    await change(port!, 50);
    expect(await decides(port!, 'alice')).to.equal(true);
    expect(await metric(port!, 'tokenring_log_lines_dropped_total')).to.be.at.least(1);
    const serving = execFileSync('pgrep', ['-f', `serve --port ${port}`])
      .toString()
      .trim()
      .split('\n')
      .map(Number);
    for (const pid of serving) process.kill(pid, 'SIGTERM');
    while (
      await get(port!, '/healthz').then(
        () => true,
        () => false,
      )
    )
      await sleep(50);
  });

  describe('on a disk that fills up', () => {
    const onDisk = (name: string): string => join(folder, 'disk', name);
    const fill = (): void => {
      const { status } = spawnSync('dd', ['if=/dev/zero', `of=${onDisk('ballast')}`, 'bs=4k'], { stdio: 'ignore' });
      expect(status).to.equal(1);
    };

    beforeEach(function () {
      execFileSync('mkdir', ['-p', join(folder, 'disk')]);
      const mount = ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', join(folder, 'disk')];
      // Only root may mount one.
      if (spawnSync('mount', mount).status !== 0) this.skip();
    });

    it('goes on, writes again once there is room, and says how many lines are missing', async () => {
      const stdout = openSync(onDisk('log'), 'a');
      const node = await serveTo(stdout);
      fill();
      await change(node.port, 100);
      const dropped = await metric(node.port, 'tokenring_log_lines_dropped_total');
      expect(dropped).to.be.at.least(50);
      rmSync(onDisk('ballast'));
      await change(node.port, 50);
      await stop(node);
      const lines = readFileSync(onDisk('log'), 'utf8').trim().split('\n');
      const report = lines
        .filter((line) => line.includes('log lines were dropped'))
        .map((line) => JSON.parse(line) as object);
      expect(report).to.have.length(1);
      expect(report[0]).to.include({ dropped });
      closeSync(stdout);
    });

    it('logs the changes that its audit log does not take, and lets them stand', async () => {
      const log = join(folder, 'log');
      const stdout = openSync(log, 'w');
      const node = await serveTo(stdout, '--audit-log', onDisk('audit'));
      await change(node.port, 50);
      fill();
      const before = statSync(onDisk('audit')).size;
      await change(node.port, 100);
      const diverted = await metric(node.port, 'tokenring_audit_lines_diverted_total');
      expect(diverted).to.be.at.least(50);
      const lines = readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => line.includes('audit log not written'));
      expect(lines).to.have.length(diverted);
      expect(JSON.parse(lines.at(-1)!)).to.nested.include({ code: 'ENOSPC', 'change.what': 'client forgotten' });
      expect(JSON.stringify(lines)).not.to.include('"stack"');
      rmSync(onDisk('ballast'));
      await change(node.port, 50);
      expect(statSync(onDisk('audit')).size).to.be.above(before);
      await stop(node);
      closeSync(stdout);
    });

    it('answers for a killed node, though all logs are on the full disk', async () => {
      const peers = (await freePorts(3)).map((port) => `127.0.0.1:${port}`);
      const stdouts = peers.map((_, i) => openSync(onDisk(`log-${i}`), 'a'));
      const cluster = await Promise.all(
        peers.map((peer, i) => serveTo(stdouts[i]!, '--peer-port', peer.split(':')[1]!, '--peers', peers.join(','))),
      );
      while ((await metric(cluster[0]!.port, 'tokenring_members\\{state="active"\\}')) < 3) await sleep(50);
      fill();
      for (const { port } of cluster) await change(port, 100);
      const [victim, ...survivors] = cluster;
      victim!.child.kill('SIGKILL');
      await sleep(1_500);
      for (const { port } of survivors) {
        for (let i = 0; i < 30; i += 1) expect(await decides(port, `client ${i} at ${port}`)).to.equal(true);
        expect(await metric(port, 'tokenring_log_lines_dropped_total')).to.be.at.least(1);
      }
      for (const node of survivors) await stop(node);
      for (const fd of stdouts) closeSync(fd);
    });
  });
});

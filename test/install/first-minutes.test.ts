import { expect } from 'chai';
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../support/eventually.js';
import { npm } from '../support/installed.js';
import { freePort, freeRow, refuses } from '../support/ports.js';
import { describeWith, pending } from '../support/programs.js';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
/** All that a newcomer's machine has. */
const PROGRAMS = ['node', 'npm', 'npx', 'git', 'sh', 'env', 'curl', 'script'];
const CTRL_C = '\x03';

interface Terminal {
  readonly child: ChildProcess;
  /** What the screen shows, without the lines by which npm repeats the command. */
  screen(): string;
  /** Resolves when the screen shows this text, and rejects when the command ends without. */
  shows(text: string): Promise<void>;
  readonly ended: Promise<number | null>;
}

describeWith(
  'the first ten minutes with a clone, on a machine that has only Node.js',
  ['script', 'git', 'curl'],
  function () {
    this.timeout(180_000);
    const home = mkdtempSync(join(tmpdir(), 'first-minutes-'));
    const folder = join(home, 'tokenring');
    const kept = Object.entries(process.env).filter(([name]) => !/^(?:TOKENRING_|NODE_|npm_|CI$)/.test(name));
    const env = { ...Object.fromEntries(kept), PATH: join(home, 'bin'), NO_COLOR: '1', TERM: 'xterm' };
    const groups: number[] = [];
    let terminal: Terminal;
    let port: number;
    let unclonable: string | undefined;

    const sh = async (command: string): Promise<string> =>
      (await run('sh', ['-c', command], { cwd: folder, env })).stdout;
    const node = async (...args: string[]): Promise<string> =>
      (await run('node', args, { cwd: folder, env })).stdout.trim();

    /** Runs a command as a person would, in a terminal. */
    function type(command: string): Terminal {
      const child = spawn('script', ['-qfec', command, '/dev/null'], { cwd: folder, env, detached: true });
      groups.push(child.pid!);
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
      const screen = (): string => text.replaceAll('\r', '').replaceAll(/^> .*\n/gm, '');
      const shows = (wanted: string): Promise<void> =>
        new Promise((resolve, reject) => {
          const look = (): void => {
            if (screen().includes(wanted)) resolve();
          };
          child.stdout.on('data', look);
          void ended.then(() => reject(new Error(`"${wanted}" is missing:\n${screen()}`)));
          look();
        });
      return { child, ended, screen, shows };
    }

    /** Command lines of processes that run from the clone. */
    const left = (): string[] =>
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .flatMap((pid) => {
          try {
            const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
            return line.includes(folder) || realpathSync(`/proc/${pid}/cwd`) === folder ? [line] : [];
          } catch {
            return [];
          }
        });

    before(async function () {
      mkdirSync(env.PATH);
      for (const name of PROGRAMS)
        symlinkSync(execFileSync('which', [name], { encoding: 'utf8' }).trim(), join(env.PATH, name));
      await run('git', ['clone', '--quiet', ROOT, folder]);
      unclonable = await npm(folder, ['ci'], env);
      port = await freeRow();
    });
    beforeEach(function () {
      if (unclonable !== undefined) pending(this, unclonable);
    });
    after(() => {
      for (const group of groups) {
        try {
          process.kill(-group, 'SIGKILL');
        } catch {
          // It has ended.
        }
      }
      rmSync(home, { recursive: true, force: true });
    });

    it('`npm run cluster` says in ten lines what it does and what to try', async () => {
      terminal = type(`npm run cluster -- --port ${port}`);
      await terminal.shows('Ctrl-C stops');
      const lines = terminal.screen().split('\n').filter(Boolean);
      expect(lines.length, lines.join('\n')).to.be.at.most(10);
      expect(lines.slice(0, 2)).to.deep.equal(['Building Tokenring …', 'Starting 3 nodes on this machine …']);
      expect(terminal.screen()).not.to.match(/WARN|\{"level"/);
      for (const more of [0, 1, 2]) expect(terminal.screen()).to.include(`http://127.0.0.1:${port + more}`);
    });

    it('the curl line that it prints works, and so do the commands of the README', async () => {
      const curl = terminal.screen().match(/curl .*/)![0];
      expect(JSON.parse(await sh(curl))).to.include({ allowed: true, limit: 5, remaining: 4 });
      const at = `--url localhost:${port}`;
      expect(await sh(`npx tokenring allow alice --limit 5 --window 1m ${at}`)).to.include('"remaining":3');
      expect(await sh(`npx tokenring status ${at}`)).to.match(/^member .*\n(?:127\.0\.0\.1:\d+ .*active.*\n){3}ring /);
      expect(await sh(`npx tokenring bench --seconds 1 ${at}`)).to.match(/^\d+ requests a second: \d+ allowed, .*\n/);
      expect(await sh(`npm run --silent load -- --duration 1 ${at.replace('localhost', 'http://127.0.0.1')}`)).to.match(
        /decisions? /,
      );
    });

    it('the library, the client, and the Express app of the README run in it', async () => {
      const readme = readFileSync(join(folder, 'README.md'), 'utf8');
      const [library, app] = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!) as [string, string];
      expect(await node('--input-type=module', '-e', library)).to.equal('true 9');
      const own = await freePort();
      const code = app.replace('8080', `${port}`).replace('3000', `${own}`);
      const child = spawn('node', ['--input-type=module', '-e', code], { cwd: folder, env, stdio: 'ignore' });
      try {
        const ask = (): Promise<Response | undefined> => fetch(`http://127.0.0.1:${own}/`).catch(() => undefined);
        const answer = await eventually(ask, (one) => one !== undefined);
        expect(await answer?.text()).to.equal('hello');
        expect(answer?.headers.get('ratelimit')).to.match(/^"default";r=\d+;t=\d+$/);
      } finally {
        child.kill();
      }
    });

    it('Ctrl-C ends all of it, and leaves no process, no open port, and no changed or new file', async () => {
      terminal.child.stdin!.write(CTRL_C);
      await terminal.ended;
      expect(terminal.screen()).to.match(/\nStopping: the nodes finish what they have begun\.\n$/);
      expect(await eventually(left, (lines) => lines.length === 0)).to.deep.equal([]);
      for (const more of [0, 1, 2, 1_000, 1_001, 1_002]) expect(await refuses(port + more)).to.equal(true);
      expect(await sh('git status --porcelain')).to.equal('');
      expect(readdirSync(join(folder, 'config')).filter((name) => /state|tmp/.test(name))).to.deep.equal([]);
    });

    it('a second start builds nothing', async () => {
      terminal = type(`npm run cluster -- --port ${port}`);
      await terminal.shows('Ctrl-C stops');
      expect(terminal.screen()).not.to.include('Building');
      terminal.child.stdin!.write(CTRL_C);
      await terminal.ended;
    });

    // The rest of `npm test` is what runs this file, and takes minutes.
    it('`npm test` starts, and Ctrl-C ends all of it', async () => {
      terminal = type('npm test');
      await terminal.shows('Checking formatting...');
      terminal.child.stdin!.write(CTRL_C);
      await terminal.ended;
      expect(await eventually(left, (lines) => lines.length === 0)).to.deep.equal([]);
    });
  },
);

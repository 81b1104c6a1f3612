import { expect } from 'chai';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { flag, SETTINGS, variable } from '../../src/app/settings/setting-table.js';
import { VERSION } from '../../src/lib/version.js';
import { bundledDist, freshDist } from '../support/dist.js';
import { eventually } from '../support/eventually.js';
import { liveNode, newClient } from '../support/http.js';
import { killAll, tokenring, type Ended } from './processes.js';
import { need } from '../support/programs.js';

/** Without what this process is started with. */
const PLAIN = { PATH: process.env['PATH'] };
const COMMANDS = [
  'allow',
  'bench',
  'completions',
  'describe',
  'owner',
  'policies',
  'reset',
  'settle',
  'status',
  'token',
  'top',
];

describe('the commands of tokenring', function () {
  this.timeout(60_000);
  let url: string;
  let folder: string;
  const run = (...args: string[]): Promise<Ended> => tokenring(args, { TOKENRING_TOKEN: 'admin' }).ended;
  before(async () => {
    url = `127.0.0.1:${(await liveNode('--admin-token', 'admin')).port}`;
    folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
  });
  after(() => {
    killAll();
    rmSync(folder, { recursive: true });
  });

  it('are listed by --help, each with its own help, examples and exit codes', async () => {
    const { stdout, code } = await run('--help');
    expect(code).to.equal(0);
    for (const name of ['serve', 'cluster', ...COMMANDS]) expect(stdout).to.match(new RegExp(`^  ${name}\\b`, 'm'));
    for (const name of COMMANDS) {
      const help = await run(name, '-h');
      expect(help).to.include({ code: 0, stderr: '' });
      expect(help.stdout).to.match(/Exit codes:\n {2}0 {2}[\s\S]*Examples:\n.*tokenring/);
    }
  });

  it('show every setting in the help of serve, whatever is wrong in the environment', async () => {
    const { code, stdout } = await tokenring(['serve', '--help'], { TOKENRING_PORT: 'x' }).ended;
    expect(code).to.equal(0);
    expect(stdout).to.include('--peer-port, TOKENRING_PEER_PORT: port for other nodes; 0 takes a free one\n');
    expect(stdout).to.include('a whole number from 0 to 65535; default 9080\n');
    const operations = readFileSync('docs/operations.md', 'utf8');
    for (const name of Object.keys(SETTINGS)) {
      expect(stdout).to.include(`  ${flag(name)}, ${variable(name)}: `);
      expect(operations, 'docs/operations.md').to.include(`\`${variable(name)}\``);
    }
  });

  it('show once what all members decide, as text and as JSON', async () => {
    const client = newClient();
    for (let i = 0; i < 3; i += 1) await run('allow', client, '--limit', '1', '--window', '1d', '--url', url);
    const { code, stdout } = await run('top', '--once', '--url', url);
    expect(code).to.equal(0);
    expect(stdout)
      .to.match(/^tokenring {2}1 members? /)
      .and.include(client);
    const { members, top } = JSON.parse((await run('top', '--once', '--json', '--url', url)).stdout) as {
      members: { stats: { denied: { owner: number } } }[];
      top: { denied: { clientId: string; count: number }[] };
    };
    expect(members[0]!.stats.denied.owner).to.be.at.least(2);
    expect(top.denied.find(({ clientId }) => clientId === client)!.count).to.be.closeTo(2, 0.2);
    const none = await run('top', '--url', '127.0.0.1:1');
    expect(none).to.include({ code: 2, stdout: '' });
    expect(none.stderr).to.match(/^tokenring: http:\/\/127\.0\.0\.1:1 does not answer: .*\n$/);
    expect((await run('top', '--span', 'day', '--url', url)).stderr).to.include('--span: "day" is not valid');
  });

  it('say what a node refuses in one sentence, or as JSON where that is wanted', async () => {
    const settle = ['settle', 'x', '3', '--url', url];
    const plain = await run(...settle);
    expect(plain).to.include({ code: 2, stdout: '' });
    expect(plain.stderr).to.match(/^tokenring: The request is not valid: reservation: "x" is not a reservation; .*\n$/);
    const asJson = await run(...settle, '--json');
    expect(JSON.parse(asJson.stderr)).to.include({ code: 'invalid_request', field: 'reservation' });
  });

  it('name the nearest command or option for a typo, in one line, and allow no client called --help', async () => {
    const typos: [args: string[], stderr: string][] = [
      [['stauts'], 'tokenring: unknown command "stauts"; did you mean status?\n'],
      [['xyzzy'], 'tokenring: unknown command "xyzzy"; see tokenring --help\n'],
      [
        ['status', '--jsno'],
        'tokenring: status: unknown option --jsno; did you mean --json?; see tokenring status --help\n',
      ],
      [['serve', '--prot', '1'], 'tokenring: --prot: there is no such setting; did you mean --port?\n'],
      [['reset'], 'tokenring: reset: expected reset CLIENT; see tokenring reset --help\n'],
    ];
    for (const [args, stderr] of typos) expect(await run(...args)).to.deep.equal({ code: 2, stdout: '', stderr });
    const asked = await run('allow', '--limit', '1', '--window', '1d', '--url', url, '--help');
    expect(asked).to.include({ code: 2, stdout: '' });
    expect(await run('--version')).to.deep.equal({ code: 0, stdout: `${VERSION}\n`, stderr: '' });
  });

  it('describe, own and reset a client', async () => {
    const client = newClient();
    await run('allow', client, '--limit', '3', '--window', '1d', '--url', url);
    expect((await run('describe', client, '--url', url)).stdout).to.match(/token-bucket +86400000 ms +3 +2 /);
    const { buckets, owner } = JSON.parse((await run('describe', client, '--url', url, '--json')).stdout) as {
      buckets: object[];
      owner: string;
    };
    expect(buckets).to.have.length(1);
    expect((await run('owner', client, '--url', url)).stdout).to.equal(`owner ${owner}\nsuccessors none\n`);
    await run('allow', client, '--limit', '3', '--window', '1d', '--scope', 'reports', '--url', url);
    expect((await run('describe', client, '--url', url)).stdout).to.match(
      /reports +- +token-bucket +86400000 ms +3 +2 /,
    );
    expect(await run('reset', client, '--url', url)).to.include({ code: 0, stdout: `${client} is reset\n` });
    expect((await run('describe', client, '--url', url)).stdout).to.include('no bucket');
    const refused = await run('settle', 'unknown', '1', '--url', url);
    expect(refused).to.include({ code: 2, stdout: '' });
  });

  it('settle a reservation, and say which cost counts: that of the first settlement', async () => {
    const response = await fetch(`http://${url}/v1/allow`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ clientId: 'reserving', limit: 10, window: '1d', cost: 5, reserve: true }),
    });
    const { reservation } = (await response.json()) as { reservation: string };
    for (const cost of ['2', '3'])
      expect((await run('settle', reservation, cost, '--url', url)).stdout).to.equal('reserving: settled at 2\n');
  });

  it('write a policy, and compare a file with what is in force', async () => {
    const [policy, file] = ['policy.json', 'policies.json'].map((name) => join(folder, name));
    writeFileSync(policy!, '{"limit":5,"window":"1m"}');
    writeFileSync(file!, '{"policies":{"api":{"limit":5,"window":"1m"}}}');
    expect(await run('policies', 'diff', file!, '--url', url)).to.include({
      code: 1,
      stdout: '+ api: only in the file\n',
    });
    expect(await run('policies', 'put', 'api', policy!, '--url', url)).to.include({ code: 0 });
    expect(await run('policies', 'diff', file!, '--url', url)).to.include({ code: 0, stdout: '' });
    expect(JSON.parse((await run('policies', 'get', 'api', '--url', url)).stdout)).to.include({ limit: 5 });
    writeFileSync(file!, '{"policies":{"api":{"limit":6,"windowMs":60000}}}');
    expect(await run('policies', 'diff', file!, '--url', url)).to.include({
      code: 1,
      stdout: '~ api: limit differs, windowMs is only in the file, window is only in force\n',
    });
    await run('allow', newClient(), '--policy', 'api', '--url', url);
    const used = await run('policies', 'delete', 'api', '--url', url);
    expect(used).to.include({ code: 2, stdout: '' });
    expect(used.stderr).to.match(
      /^tokenring: The policy is in use: api: 1 request in the last hour, .*\ntokenring: to delete it nevertheless, add --force\n$/,
    );
    writeFileSync(file!, '{"policies":{}}');
    expect(await run('policies', 'diff', file!, '--url', url)).to.include({
      code: 1,
      stdout: '- api: only in force\n',
    });
    const gone = await run('policies', 'delete', 'api', '--force', '--url', url);
    expect(gone).to.include({ code: 0, stderr: '' });
    expect(gone.stdout).to.match(/^api is deleted: version \d+\n$/);
    expect(await run('policies', 'get', 'api', '--url', url)).to.include({ code: 2 });
    expect((await run('policies', 'get', 'api', '--force')).stderr).to.include('--force is for delete alone');
  });

  it('ask the node at TOKENRING_URL, unless --url names another', async () => {
    const there = await tokenring(['status'], { TOKENRING_URL: url }).ended;
    expect(there).to.include({ code: 0, stderr: '' });
    const other = await tokenring(['status', '--url', '127.0.0.1:1'], { TOKENRING_URL: url }).ended;
    expect(other.stderr).to.match(/^tokenring: http:\/\/127\.0\.0\.1:1 does not answer/);
    const wrong = await tokenring(['status'], { TOKENRING_URL: 'ftp://x' }).ended;
    expect(wrong).to.deep.equal({
      code: 2,
      stdout: '',
      stderr: 'tokenring: TOKENRING_URL: "ftp://x" is not valid, expected host:port or http://host:port\n',
    });
  });

  it('say where they take the token from, if a node wants one', async () => {
    const path = join(folder, 'plain.json');
    writeFileSync(path, '{"limit":5,"window":"1m"}');
    const put = ['policies', 'put', 'api', path, '--url', url];
    const none = await tokenring(put, {}).ended;
    expect(none).to.include({ code: 2, stdout: '' });
    expect(none.stderr).to.match(/with the role admin; set TOKENRING_TOKEN to that token\n$/);
    const unknown = await tokenring(put, { TOKENRING_TOKEN: 'guess' }).ended;
    expect(unknown.stderr).to.match(/; the node does not know the token in TOKENRING_TOKEN\n$/);
  });

  it('measure a node', async () => {
    const { code, stdout } = await run('bench', '--url', url, '--seconds', '1', '--connections', '2', '--json');
    expect(code).to.equal(0);
    const result = JSON.parse(stdout) as { perSecond: number; failed: number };
    expect(result.perSecond).to.be.above(0);
    expect(result.failed).to.equal(0);
    expect(await run('bench', '--url', '127.0.0.1:1', '--seconds', '1')).to.include({ code: 2, stdout: '' });
  });

  it('complete themselves in a shell', async () => {
    const script = (await run('completions', 'bash')).stdout;
    const typed = `${script}\nCOMP_WORDS=(tokenring de); COMP_CWORD=1; _tokenring; echo "\${COMPREPLY[@]}"`;
    expect(spawnSync('bash', ['-c', typed]).stdout.toString()).to.equal('describe\n');
    for (const shell of ['zsh', 'fish']) expect((await run('completions', shell)).stdout).to.include('describe');
    expect(await run('completions', 'csh')).to.include({ code: 2 });
  });

  describe('cluster', () => {
    it('names the node whose port is taken, and leaves none behind', async () => {
      const taken = createServer();
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
      const { port } = taken.address() as AddressInfo;
      const { code, stderr } = await run(
        'cluster',
        '--port',
        String(port - 1),
        '--peer-port',
        '21000',
        '--log-level',
        'silent',
      );
      taken.close();
      expect(code).to.equal(2);
      expect(stderr).to.include(`tokenring: node 2 (127.0.0.1:${port}): TOKENRING_PORT: cannot listen`);
    });

    it('gives each node ports of its own for the Redis protocol and gRPC, and prints them', async () => {
      const args = ['--port', '21180', '--resp-port', '21280', '--grpc-port', '21290', '--nodes', '2', '--log', 'json'];
      const cluster = tokenring(['cluster', ...args]);
      expect(await cluster.line('cluster ready')).to.deep.include({
        resp: ['127.0.0.1:21280', '127.0.0.1:21281'],
        grpc: ['127.0.0.1:21290', '127.0.0.1:21291'],
      });
      for (const port of [21280, 21281, 21290, 21291]) {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        socket.destroy();
      }
      cluster.child.kill('SIGTERM');
      expect((await cluster.ended).code).to.equal(0);
    });

    it('prints at most ten plain lines on a terminal', async function () {
      need(this, 'script');
      const command = `${process.execPath} ${join(bundledDist(), 'cli.js')} cluster --port 21080 --policies none`;
      const terminal = spawn('script', ['-qec', command, '/dev/null'], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: PLAIN,
      });
      let text = '';
      await new Promise<void>((resolve) => {
        terminal.stdout.on('data', (chunk: Buffer) => {
          text += chunk.toString();
          if (text.includes('Ctrl-C stops')) resolve();
        });
      });
      expect(
        (await run('allow', newClient(), '--limit', '1', '--window', '1d', '--url', '127.0.0.1:21082')).code,
      ).to.equal(0);
      terminal.kill('SIGTERM');
      await new Promise((resolve) => terminal.on('close', resolve));
      const answers = (): Promise<boolean> =>
        fetch('http://127.0.0.1:21080/healthz').then(
          () => true,
          () => false,
        );
      // Its nodes end with it, though they are processes of their own.
      expect(await eventually(answers, (one) => !one)).to.equal(false);
      expect(text.trim().split('\n').length).to.be.at.most(10);
      expect(text).not.to.include('"msg"');
      expect(text).to.include('http://127.0.0.1:21080/dashboard');
    });
  });

  it('drop what nobody reads any more, and exit with the code that tells how they ended', async () => {
    const client = newClient();
    const allow = ['allow', client, '--limit', '1', '--window', '1d', '--url', url];
    for (const [args, code] of [
      [['--help'], 0],
      [['serve', '--help'], 0],
      [['status', '--url', url], 0],
      [allow, 0],
      [allow, 1],
    ] as const) {
      const program = tokenring(args, { TOKENRING_TOKEN: 'admin' });
      program.child.stdout!.destroy();
      expect(await program.ended, args.join(' ')).to.include({ code, stderr: '' });
    }
  });

  it('need more files than a shell that allows too few, and say so in one line', () => {
    const command = `ulimit -n 64; exec ${process.execPath} ${join(freshDist(), 'cli.js')} serve --port 0 --peer-port 0`;
    const { status, stderr } = spawnSync('sh', ['-c', command], { env: PLAIN, timeout: 20_000 });
    expect(status).to.equal(2);
    expect(stderr.toString()).to.equal('tokenring: too many open files (EMFILE); raise the limit: ulimit -n 65536\n');
  });
});

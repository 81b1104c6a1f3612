import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { startNode } from '../../src/main.js';
import { readSettings } from '../../src/settings/settings.js';
import { ALONE, liveNode, newClient } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { describeWith } from '../support/programs.js';

const run = promisify(execFile);
const page = readFileSync('docs/clients.md', 'utf8');

interface Language {
  readonly heading: string;
  readonly fence: string;
  readonly file: string;
  /** Succeeds where the language can be run. */
  readonly probe: readonly string[];
  /** The package of Debian; CI installs the light ones. */
  readonly from: string;
  readonly isLight: boolean;
  /** The commands that run the file, which all run in its folder. */
  readonly commands: readonly (readonly string[])[];
}

const LANGUAGES: readonly Language[] = [
  {
    heading: 'curl',
    fence: 'sh',
    file: 'ask.sh',
    probe: ['curl', '--version'],
    from: 'curl',
    isLight: true,
    commands: [['sh', 'ask.sh']],
  },
  {
    heading: 'Python',
    fence: 'python',
    file: 'ask.py',
    probe: ['python3', '--version'],
    from: 'python3',
    isLight: true,
    commands: [['python3', 'ask.py']],
  },
  {
    heading: 'Go',
    fence: 'go',
    file: 'ask.go',
    probe: ['go', 'version'],
    from: 'golang-go',
    isLight: false,
    commands: [['go', 'run', 'ask.go']],
  },
  {
    heading: 'Java',
    fence: 'java',
    file: 'Ask.java',
    probe: ['java', '-version'],
    from: 'default-jdk-headless',
    isLight: false,
    commands: [['java', 'Ask.java']],
  },
  {
    heading: 'Rust',
    fence: 'rust',
    file: 'ask.rs',
    probe: ['rustc', '--version'],
    from: 'rustc',
    isLight: false,
    commands: [['rustc', '-o', 'ask', 'ask.rs'], ['./ask']],
  },
  {
    heading: 'PHP',
    fence: 'php',
    file: 'ask.php',
    probe: ['php', '--version'],
    from: 'php-cli',
    isLight: true,
    commands: [['php', 'ask.php']],
  },
  {
    heading: 'Ruby',
    fence: 'ruby',
    file: 'ask.rb',
    probe: ['ruby', '--version'],
    from: 'ruby',
    isLight: true,
    commands: [['ruby', 'ask.rb']],
  },
];

/** The programs of a language, in order. */
function programsOf(heading: string, fence: string): string[] {
  const [, section] = new RegExp(`^## ${heading}\n([\\s\\S]*?)(?=^## )`, 'm').exec(page) ?? [];
  return [...section!.matchAll(new RegExp(`^\`\`\`${fence}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, program]) => program!,
  );
}

describe('the programs of docs/clients.md', function () {
  // The first `go run` of a machine compiles Go's libraries.
  this.timeout(300_000);
  for (const { heading, fence, file, probe, from, isLight, commands } of LANGUAGES) {
    it(`${heading}: is allowed once, then denied`, async function () {
      const [command, ...args] = probe;
      if (spawnSync(command!, args, { stdio: 'ignore' }).status !== 0) {
        const missing = `${command} is missing: apt-get install ${from}`;
        if (isLight && process.env['CI'] === 'true') throw new Error(missing);
        this.test!.title += ` (${missing})`;
        return this.skip();
      }
      const { port } = await liveNode();
      const folder = mkdtempSync(join(tmpdir(), 'tokenring-client-'));
      const env = { ...process.env, GO111MODULE: 'off' };
      const output = async (): Promise<string> => {
        let last = '';
        for (const [program, ...rest] of commands)
          last = (await run(program!, rest, { cwd: folder, env, timeout: 280_000 })).stdout;
        return last;
      };
      try {
        const [program] = programsOf(heading, fence);
        for (const part of ['8080', 'alice', '100']) expect(program, part).to.include(part);
        const own = program!.replace('100', '1').replaceAll('8080', String(port)).replace('alice', newClient());
        writeFileSync(join(folder, file), own);
        expect(await output()).to.match(/\b200\b[\s\S]*"allowed":true,"limit":1,"remaining":0/);
        expect(await output()).to.match(/\b429\b[\s\S]*"allowed":false,"limit":1,"remaining":0/);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});

interface RedisClient {
  readonly heading: string;
  readonly fence: string;
  readonly probe: readonly [string, ...string[]];
  readonly from: string;
  /** CI has the light ones. */
  readonly isLight: boolean;
  readonly run: (program: string) => readonly [string, ...string[]];
}

const RUN_GO = [
  'folder=$(mktemp -d)',
  'trap "rm -r $folder" EXIT',
  'printf %s "$1" > "$folder/ask.go"',
  'GO111MODULE=off GOPATH=/usr/share/gocode go run "$folder/ask.go"',
].join('\n');

const REDIS_CLIENTS: readonly RedisClient[] = [
  {
    heading: 'curl',
    fence: 'sh',
    probe: ['valkey-cli', '--version'],
    from: 'valkey-tools',
    isLight: true,
    run: (program) => ['sh', '-c', program],
  },
  {
    heading: 'Python',
    fence: 'python',
    probe: ['/usr/bin/python3', '-c', 'import redis'],
    from: 'python3-redis',
    isLight: true,
    run: (program) => ['/usr/bin/python3', '-c', program],
  },
  {
    heading: 'Go',
    fence: 'go',
    probe: ['sh', '-c', 'go version && test -d /usr/share/gocode/src/github.com/gomodule/redigo'],
    from: 'golang-go golang-github-gomodule-redigo-dev',
    isLight: false,
    run: (program) => ['sh', '-c', RUN_GO, 'sh', program],
  },
  {
    heading: 'PHP',
    fence: 'php',
    probe: ['php', '-r', 'new Redis();'],
    from: 'php-redis',
    isLight: true,
    run: (program) => ['php', '-r', program.replace('<?php', '')],
  },
  {
    heading: 'Ruby',
    fence: 'ruby',
    probe: ['ruby', '-e', 'require "redis"'],
    from: 'ruby-redis',
    isLight: true,
    run: (program) => ['ruby', '-e', program],
  },
];

describe('the programs of docs/clients.md that speak the Redis protocol', function () {
  this.timeout(300_000);
  for (const { heading, fence, probe, from, isLight, run: commandOf } of REDIS_CLIENTS) {
    if (!isLight && spawnSync(probe[0], probe.slice(1), { stdio: 'ignore' }).status !== 0) {
      it.skip(`${heading} (apt-get install ${from})`);
      continue;
    }
    describeWith(heading, probe, `apt-get install ${from}`, () => {
      it('is allowed once, then denied', async () => {
        const port = await freePort();
        const node = await startNode(readSettings([...ALONE, '--resp-port', String(port)], {}));
        const program = programsOf(heading, fence)[1]!;
        for (const part of ['6379', 'alice', '100']) expect(program, part).to.include(part);
        const [command, ...args] = commandOf(program.replace('100', '1').replace('6379', String(port)));
        const said = async (): Promise<string[]> => (await run(command, args)).stdout.split(/\s+/).slice(0, 3);
        try {
          expect(await said()).to.deep.equal(['1', '1', '0']);
          expect(await said()).to.deep.equal(['0', '1', '0']);
        } finally {
          await node.stop();
        }
      });
    });
  }
});

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { startNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { ALONE, liveNode, newClient } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { describeWith, need, type Program } from '../support/programs.js';

const run = promisify(execFile);
const page = readFileSync('docs/clients.md', 'utf8');

interface Language {
  readonly heading: string;
  readonly fence: string;
  readonly file: string;
  readonly program: Program;
  /** The commands that run the file, which all run in its folder. */
  readonly commands: readonly (readonly string[])[];
}

const LANGUAGES: readonly Language[] = [
  {
    heading: 'curl',
    fence: 'sh',
    file: 'ask.sh',
    program: 'curl',
    commands: [['sh', 'ask.sh']],
  },
  {
    heading: 'Python',
    fence: 'python',
    file: 'ask.py',
    program: 'python3',
    commands: [['python3', 'ask.py']],
  },
  {
    heading: 'Go',
    fence: 'go',
    file: 'ask.go',
    program: 'go',
    commands: [['go', 'run', 'ask.go']],
  },
  {
    heading: 'Java',
    fence: 'java',
    file: 'Ask.java',
    program: 'java',
    commands: [['java', 'Ask.java']],
  },
  {
    heading: 'Rust',
    fence: 'rust',
    file: 'ask.rs',
    program: 'rustc',
    commands: [['rustc', '-o', 'ask', 'ask.rs'], ['./ask']],
  },
  {
    heading: 'PHP',
    fence: 'php',
    file: 'ask.php',
    program: 'php',
    commands: [['php', 'ask.php']],
  },
  {
    heading: 'Ruby',
    fence: 'ruby',
    file: 'ask.rb',
    program: 'ruby',
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
  for (const { heading, fence, file, program: needed, commands } of LANGUAGES) {
    it(`${heading}: is allowed once, then denied`, async function () {
      need(this, needed);
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
  readonly program: Program;
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
    program: 'valkey-cli',
    run: (program) => ['sh', '-c', program],
  },
  {
    heading: 'Python',
    fence: 'python',
    program: 'python3 with Redis',
    run: (program) => ['/usr/bin/python3', '-c', program],
  },
  {
    heading: 'Go',
    fence: 'go',
    program: 'redigo',
    run: (program) => ['sh', '-c', RUN_GO, 'sh', program],
  },
  {
    heading: 'PHP',
    fence: 'php',
    program: 'php with Redis',
    run: (program) => ['php', '-r', program.replace('<?php', '')],
  },
  {
    heading: 'Ruby',
    fence: 'ruby',
    program: 'ruby with Redis',
    run: (program) => ['ruby', '-e', program],
  },
];

describe('the programs of docs/clients.md that speak the Redis protocol', function () {
  this.timeout(300_000);
  for (const { heading, fence, program: needed, run: commandOf } of REDIS_CLIENTS) {
    describeWith(heading, needed, () => {
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

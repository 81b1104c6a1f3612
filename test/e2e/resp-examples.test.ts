import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { newClient } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { describeWith } from '../support/programs.js';
import { killAll, start, tokenring } from './processes.js';

const run = promisify(execFile);

describe('the Redis protocol in docs/protocols.md', function () {
  this.timeout(60_000);
  afterEach(killAll);
  const page = readFileSync('docs/protocols.md', 'utf8').split('\n## The Redis protocol\n')[1]!;
  const blocks = (fence: string): string[] =>
    [...page.matchAll(new RegExp(`^\`\`\`${fence}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, block]) => block!);

  /** Starts a node by the command of the page, on other ports. */
  async function documentedNode(): Promise<number> {
    const [line] = blocks('sh');
    const [program, ...args] = line!.trim().split(' ');
    expect(program).to.equal('tokenring');
    const respPort = await freePort();
    expect(args.at(-1)).to.equal('6379');
    const node = tokenring([...args.with(-1, `${respPort}`), '--port', '0', '--peer-port', '0']);
    await node.line('tokenring ready');
    return respPort;
  }

  it('shows programs that run as they are', async () => {
    const port = await documentedNode();
    const programs = blocks('js');
    expect(programs).to.have.length(2);
    for (const [i, program] of programs.entries()) {
      expect(program).to.include('6379').and.include('allowed').and.include('remaining');
      const code = `${program.replace('6379', `${port}`)}\nconsole.log(allowed, remaining);\nprocess.exit();`;
      const { ended } = start(['--input-type=module', '-e', code]);
      expect(await ended).to.deep.equal({ code: 0, stdout: i === 0 ? '1 9\n' : 'true 8\n', stderr: '' });
    }
  });

  describeWith('with valkey-cli', 'valkey-cli', () => {
    it('shows commands that run as they are', async () => {
      const port = await documentedNode();
      const commands = blocks('sh')[1]!.trim().split('\n');
      const outputs: string[][] = [];
      for (const line of commands) {
        expect(line).to.match(/^valkey-cli -p 6379 \S+ alice /);
        const { stdout } = await run('sh', ['-c', line.replace('6379', `${port}`).replace('alice', newClient())]);
        outputs.push(stdout.trim().split('\n').slice(0, 4));
      }
      expect(outputs).to.deep.equal([
        ['1', '10', '9', '0'],
        ['0', '16', '15', '-1'],
      ]);
    });
  });
});

import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { HTTP_ERRORS } from '../../src/lib/error.js';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { COMMANDS } from '../../src/server/resp/commands.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { ALONE, liveNode } from '../support/http.js';
import { connectResp, type RespWire } from './wire.js';

const page = readFileSync('docs/protocols.md', 'utf8').split('\n## The Redis protocol\n')[1]!;

/** The cells of each row of the table under a heading. */
function rowsUnder(heading: string): string[][] {
  const section = page.split(`${heading}\n`)[1]!.split('\n#')[0]!;
  const lines = section.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('\\|', '|')),
  );
}

const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);

const commands = rowsUnder('### Commands').flatMap(([names, , role]) =>
  quoted(names!).map((synopsis) => ({ synopsis, name: synopsis.split(' ')[0]!, role: role!.replaceAll('`', '') })),
);

/** What comes first in an error: its code. */
async function firstWord(wire: RespWire, args: readonly string[]): Promise<string> {
  const reply = await wire.ask(...args);
  return typeof reply === 'object' && reply !== null && 'error' in reply ? reply.error.split(' ')[0]! : '';
}

describe('the tables of the Redis protocol in docs/protocols.md', () => {
  it('name each command, with its arguments', () => {
    expect(commands.map(({ name }) => name)).to.have.members(Object.keys(COMMANDS));
    for (const { synopsis, name } of commands.filter((one) => one.synopsis.includes(' '))) {
      const required = synopsis
        .replaceAll(/\[.*\]/g, '')
        .trim()
        .split(/ +/).length;
      const optional = [...synopsis.matchAll(/\[(\w+)\]/g)].length;
      const isOpen = /…|\[.*\[/.test(synopsis);
      expect(COMMANDS[name], name).to.include({ min: required, max: isOpen ? 64 : required + optional });
    }
  });

  it('name each option of TR.ALLOW', async () => {
    const wire = await connectResp((await liveNode('--resp-port', '0')).respPort!);
    const reply = (await wire.ask('TR.ALLOW', 'x', 'QQQQ', 1)) as { error: string };
    wire.socket.destroy();
    const [, list] = /The options of `TR\.ALLOW`[^:]*:([^.]*)\./.exec(page)!;
    const documented = quoted(list!).map((option) => option.split(' ')[0]!);
    const known = reply.error.match(/\b[A-Z]{2,}\b/g)!.filter((word) => !['QQQQ', 'INVALID'].includes(word));
    expect(documented).to.have.members(known);
  });

  it('name each error', () => {
    const documented = rowsUnder('### Errors').map(([code]) => quoted(code!)[0]!);
    const source = readdirSync('src/server/resp')
      .map((name) => readFileSync(`src/server/resp/${name}`, 'utf8'))
      .join('\n')
      .replaceAll(/^ *(\/\*)?\*.*$/gm, '');
    const own = [...source.matchAll(/['`](ERR|Cell|[A-Z]{6,}) [\w']/g)].map(([, code]) => code!);
    const thrown = [
      'server/resp',
      'server/validate',
      'server/edge/admission.ts',
      'server/edge/server-context.ts',
      'node/decide/check-router.ts',
    ].flatMap(codesIn);
    const renamed: Record<string, string> = { UNAUTHORIZED: 'NOAUTH', FORBIDDEN: 'NOPERM' };
    for (const code of [...own, ...thrown]) expect(documented, code).to.include(renamed[code] ?? code);
    const http = Object.keys(HTTP_ERRORS).map((code) => renamed[code.toUpperCase()] ?? code.toUpperCase());
    for (const code of documented) expect([...own, ...http], code).to.include(code);
  });

  describe('name the role that each command needs', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-resp-'));
    let node: RunningNode;
    before(async () => {
      const tokens = ['decide', 'read'].map((role) => ({
        name: role,
        roles: [role],
        sha256: createHash('sha256').update(`secret of ${role}`).digest('hex'),
      }));
      const path = join(folder, 'tokens.json');
      writeFileSync(path, JSON.stringify({ require: ['read', 'decide'], tokens }));
      node = await startNode(readSettings([...ALONE, '--tokens', path, '--resp-port', '0'], {}));
    });
    after(async () => {
      await node.stop();
      rmSync(folder, { recursive: true });
    });

    const arguments_: Readonly<Record<string, string>> = {
      'TR.ALLOW': 'x LIMIT 5 WINDOW 1d',
      'TR.SETTLE': 'x 1',
      'TR.DESCRIBE': 'x',
      'CL.THROTTLE': 'x 5 5 60',
      THROTTLE: 'x 5 5 60',
      AUTH: 'secret',
      ECHO: 'x',
      CLIENT: 'ID',
      SELECT: '0',
    };
    for (const { name, role } of commands) {
      it(`${name}: ${role === '' ? 'none' : role}`, async () => {
        const ask = [name, ...(arguments_[name]?.split(' ') ?? [])];
        for (const token of [undefined, 'decide', 'read']) {
          const wire = await connectResp(node.respPort!);
          if (token !== undefined) await wire.ask('AUTH', `secret of ${token}`);
          const code = await firstWord(wire, ask);
          wire.socket.destroy();
          const needs = role === 'any' ? token !== undefined : role === '' || role === token;
          if (needs) expect(code).not.to.be.oneOf(['NOPERM', ...(name === 'HELLO' ? [] : ['NOAUTH'])]);
          else expect(code).to.equal(token === undefined ? 'NOAUTH' : 'NOPERM');
        }
      });
    }
  });
});

/** Codes of the errors that a file, or the files of a folder, throw. Bodies in JSON are of HTTP alone. */
function codesIn(path: string): string[] {
  const files = path.endsWith('.ts') ? [path] : readdirSync(`src/${path}`).map((name) => `${path}/${name}`);
  const text = files.map((name) => readFileSync(`src/${name}`, 'utf8')).join('\n');
  const codes = [...text.matchAll(/new TokenringError\('(\w+)'/g)].map(([, code]) => code!.toUpperCase());
  return codes.filter((code) => code !== 'INVALID_JSON');
}

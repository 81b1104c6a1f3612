import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { expect } from 'chai';
import { SETTINGS, variable } from '../src/app/settings/setting-table.js';

const read = (path: string): string => readFileSync(path, 'utf8');
const docs = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...readdirSync('docs').map((name) => `docs/${name}`)]
  .filter((path) => path.endsWith('.md'))
  .map((path) => ({ path, text: read(path) }));
const operations = read('docs/operations.md');
const files = ['src', 'test', 'config', 'docker', 'docs'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
);

const matches = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map((match) => match[1]!);

/** What a heading is linked by. */
function anchorsOf(text: string): string[] {
  return matches(text, /^#+ (.*)$/gm).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe('the docs', () => {
  it('link to what is there', () => {
    for (const { path, text } of docs) {
      for (const link of matches(text, /\]\(([^)\s]+)\)/g).filter((one) => !/^https?:/.test(one))) {
        const [file = '', anchor] = link.split('#');
        const target = file === '' ? path : join(dirname(path), file);
        expect(existsSync(target), `${link} in ${path}`).to.equal(true);
        if (anchor !== undefined) expect(anchorsOf(read(target)), `${link} in ${path}`).to.include(anchor);
      }
    }
  });

  it('name files that are there', () => {
    const floors = readdirSync('src', { withFileTypes: true }).filter((one) => one.isDirectory());
    const name = '[a-z]+(?:-[a-z0-9]+)*';
    const inSource = new RegExp(`\\b((?:${floors.map((one) => one.name).join('|')})(?:/${name})+)(?![\\w/.-])`, 'g');
    for (const { path, text } of docs) {
      for (const name of matches(text, /`([\w/.-]+\.(?:ts|js|cfg|yml))`/g)) {
        expect(
          files.some((file) => `/${file}`.endsWith(`/${name}`)),
          `${name} in ${path}`,
        ).to.equal(true);
      }
    }
    // Its pictures name them without an ending.
    const pictures = matches(read('docs/architecture.md'), /```\n([\s\S]*?)```/g);
    for (const name of pictures.flatMap((one) => matches(one, inSource))) expect(files).to.include(`src/${name}.ts`);
  });

  it('name scripts that are there', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const { path, text } of docs) {
      for (const name of matches(text, /npm run (?:-s )?([\w:]+)/g)) expect(scripts, path).to.have.property(name);
    }
  });

  it('need not say where a source file is tested: a test has its name, or its folder has a list', () => {
    const listed = JSON.parse(read('config/tests-of-folders.json')) as Readonly<Record<string, readonly string[]>>;
    const tested = new Set(files.filter((path) => path.endsWith('.test.ts')).map((path) => basename(path, '.test.ts')));
    for (const path of files.filter((name) => name.startsWith('src/') && name.endsWith('.ts'))) {
      const folder = relative('src', dirname(path));
      // The list of a folder counts for those below it, too.
      const above = folder.split('/').map((_, i, names) => names.slice(0, i + 1).join('/'));
      if (folder !== '' && !tested.has(basename(path, '.ts'))) expect(listed).to.have.any.keys(...above);
    }
    for (const path of Object.values(listed).flat()) expect(existsSync(path), path).to.equal(true);
  });

  it('list every setting, and no other', () => {
    const [table = ''] = operations.split('## Start and stop');
    const rows = matches(table, /^\| (`TOKENRING_[^|]*)\|/gm).flatMap((row) => matches(row, /`(\w+)`/g));
    expect(rows).to.have.members(Object.keys(SETTINGS).map(variable));
  });

  it('list every metric, and no other', () => {
    const source = files.filter((path) => /^src\/(server\/http|app\/group)\/.*\.ts$/.test(path)).map(read);
    const measured = new Set(source.flatMap((text) => matches(text, /'(tokenring_[a-z_]+)'/g)));
    const told = new Set(matches(operations, /`(tokenring_[a-z_]+)/g));
    expect([...told].toSorted()).to.deep.equal([...measured].toSorted());
    for (const { path, text } of docs) {
      for (const name of matches(text, /`(tokenring_[a-z_]+)/g)) expect(measured, path).to.include(name);
    }
  });
});

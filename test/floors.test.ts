import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect } from 'chai';
import ts from 'typescript';

/** A source file: what it imports, by path within src or by the name of a package, and the globals that it names. */
interface Source {
  readonly path: string;
  readonly lines: number;
  readonly imports: readonly string[];
  readonly names: ReadonlySet<string>;
}

function readSource(path: string): Source {
  const text = readFileSync(join('src', path), 'utf8');
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const imports = new Set<string>();
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    const from = importedBy(node);
    if (from !== undefined) imports.add(from.startsWith('.') ? normalize(join(dirname(path), from)) : from);
    if (ts.isIdentifier(node)) names.add(node.text);
    if (ts.isPropertyAccessExpression(node)) names.add(node.getText(file));
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { path, lines: text.split('\n').length - 1, imports: [...imports], names };
}

/** The module of an import, static or dynamic, of a re-export or of a type. */
function importedBy(node: ts.Node): string | undefined {
  let from: ts.Node | undefined;
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) from = node.moduleSpecifier;
  else if (ts.isImportTypeNode(node)) from = ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined;
  else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) from = node.arguments[0];
  return from !== undefined && ts.isStringLiteral(from) ? from.text.replace(/\.js$/, '.ts') : undefined;
}

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map(readSource);

const floorOf = (path: string): string => (path.includes('/') ? path.slice(0, path.indexOf('/')) : path);
const isOurs = (name: string): boolean => sources.some(({ path }) => path === name);

/** What a floor may import: floors and files of ours, and packages. */
const FLOORS: Record<string, { ours: string[]; packages: RegExp }> = {
  core: { ours: ['core'], packages: /^(node:crypto|lru-cache|hashring)$/ },
  cluster: { ours: ['core', 'cluster'], packages: /^lru-cache$/ },
  client: { ours: ['core', 'client'], packages: /^(node:(crypto|http|tls|util)|undici)$/ },
  http: { ours: ['core', 'cluster', 'http'], packages: /./ },
  peer: { ours: ['core', 'cluster', 'peer'], packages: /./ },
  discovery: { ours: ['core', 'cluster', 'discovery'], packages: /./ },
  group: { ours: ['core', 'cluster', 'group', 'setting-table.ts'], packages: /^(node:cluster|prom-client)$/ },
  store: { ours: ['core', 'cluster', 'store'], packages: /./ },
};
/** What a client looks like outside of this process is written down once: on the way to another node, and in a store. */
const CODEC = ['peer/wire.ts', 'peer/wire-clients.ts'];

describe('the house', () => {
  it('has a known floor for every folder', () => {
    const folders = new Set(sources.map(({ path }) => floorOf(path)).filter((floor) => !floor.endsWith('.ts')));
    expect([...Object.keys(FLOORS), 'cli']).to.include.members([...folders]);
    expect([...folders]).to.include.members(['core', 'cluster', 'http', 'cli']);
    for (const { path, imports } of sources) {
      for (const name of imports.filter((one) => one.endsWith('.ts')))
        expect(isOurs(name), `${name} in ${path}`).to.equal(true);
    }
  });

  for (const [floor, { ours, packages }] of Object.entries(FLOORS)) {
    it(`lets src/${floor} stand on ${ours.filter((one) => one !== floor).join(' and ') || 'nothing'}`, () => {
      for (const { path, imports } of sources.filter((source) => floorOf(source.path) === floor)) {
        for (const name of imports) {
          const sharesCodec = floor === 'store' && CODEC.includes(name);
          const allowed = isOurs(name) ? sharesCodec || ours.includes(floorOf(name)) : packages.test(name);
          expect(allowed, `src/${path} imports ${name}`).to.equal(true);
        }
      }
    });
  }

  it('has no command below the roof, and no circle anywhere', () => {
    const byPath = new Map(sources.map((source) => [source.path, source]));
    const done = new Set<string>();
    const walk = (path: string, trail: readonly string[]): void => {
      expect(trail, `a circle: ${[...trail, path].join(' → ')}`).not.to.include(path);
      if (done.has(path)) return;
      for (const name of byPath.get(path)?.imports ?? []) if (byPath.has(name)) walk(name, [...trail, path]);
      done.add(path);
    };
    for (const { path } of sources) walk(path, []);
    for (const { path, imports } of sources.filter((source) => !/^cli(\/|\.ts$)/.test(source.path))) {
      expect(
        imports.filter((name) => /^cli(\/|\.ts$)/.test(name)),
        path,
      ).to.deep.equal([]);
    }
  });

  const OUTSIDE = [
    'Date',
    'performance',
    'setTimeout',
    'setInterval',
    'setImmediate',
    'queueMicrotask',
    'Math.random',
    'process',
    'fetch',
    'console',
    'require',
    'crypto.getRandomValues',
    'randomUUID',
    'randomBytes',
  ];

  for (const floor of ['core', 'cluster']) {
    it(`reads no clock, starts no timer and rolls no dice in src/${floor}: they are handed in`, () => {
      for (const { path, names } of sources.filter((source) => floorOf(source.path) === floor)) {
        expect(
          OUTSIDE.filter((name) => names.has(name)),
          `src/${path}`,
        ).to.deep.equal([]);
      }
    });
  }

  it('has no file that needs a map', () => {
    for (const { path, lines } of sources) expect(lines, `lines of src/${path}`).to.be.at.most(320);
  });
});

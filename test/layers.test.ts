import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect } from 'chai';
import ts from 'typescript';

/** A source file: its imports, by path within src or by package name, and the identifiers that it mentions. */
interface Source {
  readonly path: string;
  readonly file: ts.SourceFile;
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
    if (from !== undefined) imports.add(from.startsWith('.') ? fileOf(join(dirname(path), from)) : from);
    if (ts.isIdentifier(node)) names.add(node.text);
    if (ts.isPropertyAccessExpression(node)) names.add(node.getText(file));
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { path, file, imports: [...imports], names };
}

/** The module of an import (static, dynamic, or of a type) or of a re-export. */
function importedBy(node: ts.Node): string | undefined {
  let from: ts.Node | undefined;
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) from = node.moduleSpecifier;
  else if (ts.isImportTypeNode(node)) from = ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined;
  else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) from = node.arguments[0];
  return from !== undefined && ts.isStringLiteral(from) ? from.text : undefined;
}

const fileOf = (imported: string): string => normalize(imported).replace(/\.js$/, '.ts');

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map(readSource);

/** The top folder of a path, or the file itself where it stands at the top of src. */
const roomOf = (path: string): string => (path.includes('/') ? path.slice(0, path.indexOf('/')) : path);
const isOurs = (name: string): boolean => sources.some(({ path }) => path === name);

/** The rooms of src, bottom first: each imports only rooms before it. Beside them, the packages that it may import. */
const ROOMS: readonly (readonly [room: string, packages: RegExp])[] = [
  ['lib', /^(node:.+|lru-cache|ipaddr\.js)$/],
  ['limits', /^(node:crypto|lru-cache|hashring|ipaddr\.js)$/],
  ['policy', /^(node:crypto|lru-cache)$/],
  ['state', /^lru-cache$/],
  ['protocol', /./],
  ['membership', /./],
  ['store', /./],
  ['replication', /^lru-cache$/],
  ['node', /^lru-cache$/],
  ['server', /./],
  ['client', /^(undici|express|fastify|hono|koa|@nestjs\/common)$/],
  ['app', /./],
  ['cli', /./],
  ['pages', /./],
  // The entry of the package, and the command that its `bin` names.
  ['index.ts', /^$/],
  ['cli.ts', /^$/],
];
/** Rooms below the client that run only in Node.js; it also runs in Bun, Deno, and workers. */
const CLIENT_USES = ['lib', 'limits', 'client'];
/** Code that the simulator runs in virtual time. It learns the time, and all else of the world, through interfaces. */
const isSimulated = (path: string): boolean =>
  /^(limits|policy|state|membership|replication|node)\//.test(path) && !path.startsWith('membership/discovery/');

const rankOf = (path: string): number => ROOMS.findIndex(([room]) => room === roomOf(path));

describe('the rooms of src', () => {
  it('are known, and every import leads to a file', () => {
    for (const { path, imports } of sources) {
      expect(rankOf(path), `the room of src/${path}`).to.be.at.least(0);
      for (const name of imports.filter((one) => one.endsWith('.ts')))
        expect(isOurs(name), `${name} in ${path}`).to.equal(true);
    }
  });

  it('import only rooms below them, and the packages of their own', () => {
    for (const { path, imports } of sources) {
      const [, packages] = ROOMS[rankOf(path)]!;
      for (const name of imports) {
        const allowed = isOurs(name) ? rankOf(name) <= rankOf(path) : packages.test(name);
        expect(allowed, `src/${path} imports ${name}`).to.equal(true);
      }
    }
  });

  it('keep the client free of all that needs a node', () => {
    for (const { path, imports } of sources.filter((source) => roomOf(source.path) === 'client')) {
      for (const name of imports.filter(isOurs)) expect(CLIENT_USES, `src/${path}`).to.include(roomOf(name));
    }
  });

  it('have no cycle', () => {
    const byPath = new Map(sources.map((source) => [source.path, source]));
    const done = new Set<string>();
    const walk = (path: string, trail: readonly string[]): void => {
      expect(trail, `a cycle: ${[...trail, path].join(' → ')}`).not.to.include(path);
      if (done.has(path)) return;
      for (const name of byPath.get(path)?.imports ?? []) if (byPath.has(name)) walk(name, [...trail, path]);
      done.add(path);
    };
    for (const { path } of sources) walk(path, []);
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

  it('get clocks, timers, and random numbers from outside where the simulator runs them', () => {
    for (const { path, names } of sources.filter((source) => isSimulated(source.path))) {
      expect(
        OUTSIDE.filter((name) => names.has(name)),
        `src/${path}`,
      ).to.deep.equal([]);
    }
  });
});

/** Lines of a function without the functions inside it: a factory is long when its own wiring is. */
function ownLines(node: ts.Node, file: ts.SourceFile): number {
  const lineOf = (at: number): number => file.getLineAndCharacterOfPosition(at).line;
  let lines = lineOf(node.end) - lineOf(node.getStart(file)) + 1;
  const visit = (child: ts.Node): void => {
    if (ts.isFunctionLike(child)) lines -= lineOf(child.end) - lineOf(child.getStart(file));
    else ts.forEachChild(child, visit);
  };
  ts.forEachChild(node, visit);
  return lines;
}

/** Names that a file exports, other than by re-export. */
function exportsOf({ file }: Source): string[] {
  const names: string[] = [];
  for (const statement of file.statements) {
    if (!ts.canHaveModifiers(statement)) continue;
    if (ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) !== true) continue;
    if (ts.isVariableStatement(statement))
      for (const { name } of statement.declarationList.declarations)
        names.push(...(ts.isIdentifier(name) ? [name] : name.elements).map((one) => one.getText(file)));
    else if ('name' in statement) names.push((statement.name as ts.Identifier).text);
  }
  return names;
}

/** Files that users import, by package.json, and files that processes are started from. */
const ENTRIES = [
  'index.ts',
  'client/index.ts',
  'client/web.ts',
  'client/frameworks/express.ts',
  'client/frameworks/fastify.ts',
  'client/frameworks/hono.ts',
  'client/frameworks/koa.ts',
  'client/frameworks/nestjs.ts',
  'client/stores/store.ts',
  'cli.ts',
  'store/lmdb-child.ts',
];
const MAX_FUNCTION_LINES = 80;

describe('the code of src', () => {
  it(`has no function of more than ${MAX_FUNCTION_LINES} lines of its own`, () => {
    const long: string[] = [];
    for (const { path, file } of sources) {
      const visit = (node: ts.Node): void => {
        if (ts.isFunctionLike(node) && ownLines(node, file) > MAX_FUNCTION_LINES)
          long.push(`${node.name?.getText(file) ?? 'a function'} in src/${path}: ${ownLines(node, file)} lines`);
        ts.forEachChild(node, visit);
      };
      visit(file);
    }
    expect(long).to.deep.equal([]);
  });

  it('exports nothing that no other file uses', () => {
    const tests = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter((path) => /\.[tj]s$/.test(path));
    const texts = [
      ...sources.map(({ path, file }) => ({ path: `src/${path}`, text: file.text })),
      ...tests.map((path) => ({ path: `test/${path}`, text: readFileSync(join('test', path), 'utf8') })),
    ];
    const unused = sources
      .filter(({ path }) => !ENTRIES.includes(path))
      .flatMap((source) =>
        exportsOf(source)
          .filter((name) => {
            const word = new RegExp(`\\b${name}\\b`);
            return !texts.some(({ path, text }) => path !== `src/${source.path}` && word.test(text));
          })
          .map((name) => `${name} of src/${source.path}`),
      );
    expect(unused).to.deep.equal([]);
  });
});

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
const layerOf = (path: string): string => (path.includes('/') ? path.slice(0, path.indexOf('/')) : path);
const isOurs = (name: string): boolean => sources.some(({ path }) => path === name);

/** The layers and files of ours, and the packages, that a layer may import. */
const LAYERS: Record<string, { ours: string[]; packages: RegExp }> = {
  core: { ours: ['core'], packages: /^(node:crypto|lru-cache|hashring|ipaddr\.js)$/ },
  cluster: { ours: ['core', 'cluster'], packages: /^lru-cache$/ },
  wire: { ours: ['core', 'cluster', 'wire'], packages: /^node:buffer$/ },
  validate: { ours: ['core', 'cluster', 'validate'], packages: /^(node:(crypto|buffer)|@sinclair\/typebox(\/.+)?)$/ },
  client: { ours: ['core', 'client'], packages: /^(undici|express|fastify|hono|koa|@nestjs\/common)$/ },
  edge: {
    ours: ['core', 'cluster', 'validate', 'edge'],
    packages: /^(node:(crypto|http|net|tls|timers\/promises)|@sinclair\/typebox(\/.+)?)$/,
  },
  http: { ours: ['core', 'cluster', 'validate', 'edge', 'http'], packages: /./ },
  grpc: { ours: ['core', 'cluster', 'validate', 'edge', 'grpc'], packages: /^node:/ },
  resp: { ours: ['core', 'cluster', 'validate', 'edge', 'resp'], packages: /^node:(buffer|net|tls)$/ },
  peer: { ours: ['core', 'cluster', 'wire', 'peer'], packages: /./ },
  discovery: { ours: ['core', 'cluster', 'discovery'], packages: /./ },
  store: { ours: ['core', 'cluster', 'wire', 'store'], packages: /./ },
  log: { ours: ['core', 'log', 'settings', 'edge'], packages: /./ },
  settings: { ours: ['core', 'cluster', 'store', 'settings'], packages: /^node:(fs|os|util|v8)$/ },
  group: {
    ours: ['core', 'cluster', 'group', 'settings'],
    packages: /^(node:(cluster|fs|net|path)|prom-client)$/,
  },
};

/** The folders of src/core, bottom first: each may import those before it and files of src/core itself. */
const CORE_FOLDERS = ['ring', 'bucket', 'policy', 'decide', 'request'];

/** The folders of src/cluster, bottom first: each may import those before it. */
const CLUSTER_FOLDERS = [
  'state',
  'membership',
  'routing',
  'replication',
  'leases',
  'policies',
  'decide',
  'durability',
  'handover',
];
/** The files of src/cluster itself that every folder may import; the rest stands above the folders. */
const PORTS = ['cluster/ports.ts', 'cluster/messages.ts'];

/** 0 for ports and messages, then the folders in their order, then the node on top of them. */
function clusterRank(path: string): number {
  if (PORTS.includes(path)) return 0;
  const [, folder, file] = path.split('/');
  return file === undefined ? CLUSTER_FOLDERS.length + 1 : CLUSTER_FOLDERS.indexOf(folder!) + 1;
}

describe('the layers of src', () => {
  it('are known for every folder, and every import leads to a file', () => {
    const folders = new Set(sources.map(({ path }) => layerOf(path)).filter((layer) => !layer.endsWith('.ts')));
    expect([...Object.keys(LAYERS), 'cli']).to.include.members([...folders]);
    expect([...folders]).to.include.members(['core', 'cluster', 'http', 'cli']);
    for (const { path, imports } of sources) {
      for (const name of imports.filter((one) => one.endsWith('.ts')))
        expect(isOurs(name), `${name} in ${path}`).to.equal(true);
    }
  });

  for (const [layer, { ours, packages }] of Object.entries(LAYERS)) {
    it(`let src/${layer} import ${ours.filter((one) => one !== layer).join(', ') || 'nothing above it'}`, () => {
      for (const { path, imports } of sources.filter((source) => layerOf(source.path) === layer)) {
        for (const name of imports) {
          const allowed = isOurs(name) ? ours.includes(layerOf(name)) : packages.test(name);
          expect(allowed, `src/${path} imports ${name}`).to.equal(true);
        }
      }
    });
  }

  it('let a folder of src/core import only folders below it', () => {
    const rank = (path: string): number => CORE_FOLDERS.indexOf(path.split('/')[1]!);
    const inFolder = (path: string): boolean => layerOf(path) === 'core' && path.split('/').length > 2;
    for (const { path, imports } of sources.filter((source) => inFolder(source.path))) {
      expect(CORE_FOLDERS, `src/${path}`).to.include(path.split('/')[1]);
      for (const name of imports.filter(inFolder))
        expect(rank(name), `src/${path} imports ${name}`).to.be.at.most(rank(path));
    }
  });

  it('let a folder of src/cluster import only folders below it', () => {
    for (const { path, imports } of sources.filter((source) => layerOf(source.path) === 'cluster')) {
      expect(clusterRank(path), `the folder of ${path} has a place in the order`).to.be.at.least(
        path.split('/').length > 2 ? 1 : 0,
      );
      for (const name of imports.filter((one) => layerOf(one) === 'cluster'))
        expect(clusterRank(name), `src/${path} imports ${name}`).to.be.at.most(clusterRank(path));
    }
  });

  it('have commands on top, and no cycle anywhere', () => {
    const byPath = new Map(sources.map((source) => [source.path, source]));
    const done = new Set<string>();
    const walk = (path: string, trail: readonly string[]): void => {
      expect(trail, `a cycle: ${[...trail, path].join(' → ')}`).not.to.include(path);
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

  for (const layer of ['core', 'cluster']) {
    it(`keep clocks, timers, and random numbers out of src/${layer}: they are injected`, () => {
      for (const { path, names } of sources.filter((source) => layerOf(source.path) === layer)) {
        expect(
          OUTSIDE.filter((name) => names.has(name)),
          `src/${path}`,
        ).to.deep.equal([]);
      }
    });
  }
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

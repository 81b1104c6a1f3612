// Finds the test files that are to find the mutants of a source file.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';

const FOLDERS = ['core', 'cluster'];
/** One imports copies of the sources while it runs, one measures the heap: instrumented sources take more of it. */
const OMITTED = ['machines.test.ts', 'heap-bytes.test.ts'];
/** A test that imports a file over more files than these seldom is about it. */
const NEAR = 2;
const IMPORT = /^(?:import|export)\s(?!type\s)[^;]*?from\s+'(\.[^']*)\.js'/gms;

/**
 * Test files of a source's name, those that import it over at most one other file, and those that `tests-of-folders.json`
 * names for its folder, or else for the nearest folder above. Without any, the nearest.
 * @param sources paths of files in `src`
 * @returns absolute paths, sorted
 */
export function testsNear(sources) {
  const names = FOLDERS.flatMap((folder) => readdirSync(join('test', folder)).map((name) => join(folder, name)));
  const files = names.filter((name) => name.endsWith('.test.ts') && !OMITTED.includes(basename(name)));
  const tests = files.map((name) => ({ file: resolve('test', name), steps: stepsFrom(resolve('test', name)) }));
  const ofFolders = testsByFolder();
  return [...new Set(sources.flatMap((source) => testsOf(resolve(source), tests, ofFolders)))].sort();
}

function testsOf(source, tests, ofFolders) {
  const named = ofFolders.get(listedFolderOf(source, ofFolders)) ?? [];
  const stepsOf = ({ file, steps }) =>
    isNamedAs(file, source) || named.includes(file) ? 0 : (steps.get(source) ?? Infinity);
  const most = Math.max(NEAR, Math.min(...tests.map(stepsOf)));
  return tests.filter((test) => stepsOf(test) <= most && stepsOf(test) < Infinity).map(({ file }) => file);
}

/** @returns the nearest folder of a file that is listed; `undefined` if none is */
function listedFolderOf(source, listed) {
  for (let folder = dirname(source); folder !== dirname(folder); folder = dirname(folder))
    if (listed.has(folder)) return folder;
  return undefined;
}

function testsByFolder() {
  return new Map(
    Object.entries(JSON.parse(readFileSync('config/tests-of-folders.json', 'utf8'))).map(([folder, files]) => [
      resolve('src', folder),
      files.map((file) => resolve(file)),
    ]),
  );
}

export function isNamedAs(testFile, source) {
  return basename(testFile, '.test.ts') === basename(source, '.ts');
}

/** Over how many imports a file reaches each other: breadth first. */
function stepsFrom(file) {
  const steps = new Map([[file, 0]]);
  for (const [from, count] of steps) {
    for (const to of importsOf(from)) if (!steps.has(to)) steps.set(to, count + 1);
  }
  return steps;
}

const imports = new Map();

function importsOf(file) {
  if (!imports.has(file)) {
    const paths = [...readFileSync(file, 'utf8').matchAll(IMPORT)].map(([, path]) =>
      resolve(dirname(file), `${path}.ts`),
    );
    imports.set(file, paths.filter(existsSync));
  }
  return imports.get(file);
}

if (process.argv[1] === import.meta.filename)
  for (const file of testsNear(process.argv.slice(2))) console.log(relative('.', file));

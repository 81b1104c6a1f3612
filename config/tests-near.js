// Finds the test files that are to find the mutants of a source file.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** The tests of a layer come first. */
const LAYERS = ['core', 'cluster'];
/** One imports copies of the sources while it runs, one measures the heap: instrumented sources take more of it. */
const OMITTED = ['machines.test.ts', 'heap-bytes.test.ts'];
/** A test that imports a file over more files than these seldom is about it. */
const NEAR = 2;
const IMPORT = /^(?:import|export)\s(?!type\s)[^;]*?from\s+'(\.[^']*)\.js'/gms;

/**
 * Test files of the layer that import the source over at most one other file, and those of its name. Without any, the
 * nearest of all layers.
 * @param sources paths of files in `src`
 * @returns absolute paths, sorted
 */
export function testsNear(sources) {
  const found = LAYERS.flatMap((layer) => {
    const names = readdirSync(join('test', layer)).filter(
      (name) => name.endsWith('.test.ts') && !OMITTED.includes(name),
    );
    return names.map((name) => ({ file: resolve('test', layer, name), layer }));
  });
  const tests = found.map((test) => ({ ...test, steps: stepsFrom(test.file) }));
  return [...new Set(sources.flatMap((source) => testsOf(resolve(source), tests)))].sort();
}

function testsOf(source, tests) {
  const layer = layerOf(source);
  const stepsOf = (test) => (isNamedAs(test.file, source) ? 0 : (test.steps.get(source) ?? Infinity));
  const near = tests.filter((test) => stepsOf(test) === 0 || (test.layer === layer && stepsOf(test) <= NEAR));
  const nearest = Math.min(...tests.map(stepsOf));
  const chosen = near.length > 0 ? near : tests.filter((test) => stepsOf(test) === nearest && nearest < Infinity);
  return chosen.map(({ file }) => file);
}

export function layerOf(file) {
  return LAYERS.find((layer) => file.includes(join('src', layer)) || file.includes(join('test', layer)));
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

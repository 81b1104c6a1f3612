// Runs mocha for Stryker. Stryker's own runner knows mocha up to 11.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { INSTRUMENTER_CONSTANTS } from '@stryker-mutator/api/core';
import { PluginKind, commonTokens, declareClassPlugin } from '@stryker-mutator/api/plugin';
import {
  DryRunStatus,
  TestStatus,
  determineHitLimitReached,
  toMutantRunResult,
} from '@stryker-mutator/api/test-runner';
import fc from 'fast-check';
import Mocha from 'mocha';

/** The tests of a layer are to find the mutants of that layer. */
const LAYERS = ['core', 'cluster'];
/** One imports copies of the sources while it runs, one measures the heap: instrumented sources take more of it. */
const OMITTED = ['machines.test.ts', 'heap-bytes.test.ts'];
/** Tests that take longer come last, if no other has failed. */
const FAST_MS = 30;
/** What the tests took in the first run; in the sandbox, where each new worker finds it. */
const DURATIONS = 'durations.json';

class MutationRunner {
  #mocha = new Mocha({ timeout: 0, reporter: silent });
  #loaded = false;
  #durations = new Map();
  #layers;
  /** What the changed sources read: which mutant is active, and where they count what each test covers. */
  #context = (globalThis[INSTRUMENTER_CONSTANTS.NAMESPACE] ??= {});

  static inject = [commonTokens.options];

  constructor({ mutate }) {
    const core = mutate.every((pattern) => pattern.startsWith('src/core/'));
    this.#layers = core ? ['core'] : LAYERS;
  }

  capabilities() {
    // A module stays as it was imported first.
    return { reloadEnvironment: false };
  }

  init() {
    // It is enough that a property fails. Its smallest counterexample would take a while.
    // No property has a time limit: on a busy machine it would fail without a run, and the mutant would count as killed.
    fc.configureGlobal({ endOnFailure: true });
    this.#mocha.cleanReferencesAfterRun(false);
    const context = this.#context;
    this.#mocha.suite.beforeEach(function () {
      context.currentTestId = this.currentTest.fullTitle();
    });
  }

  async dryRun() {
    const result = await this.#run(false);
    const took = (result.tests ?? []).map(({ id, fileName, timeSpentMs }) => [id, { fileName, timeSpentMs }]);
    writeFileSync(DURATIONS, JSON.stringify(took));
    return { ...result, mutantCoverage: this.#context.mutantCoverage };
  }

  async mutantRun({ activeMutant: { id, fileName }, testFilter = [], hitLimit, disableBail }) {
    if (this.#durations.size === 0) this.#durations = new Map(JSON.parse(readFileSync(DURATIONS, 'utf8')));
    this.#context.hitLimit = hitLimit;
    this.#context.hitCount = hitLimit === undefined ? undefined : 0;
    const layer = LAYERS.find((name) => fileName.includes(join('src', name)));
    const own = testFilter.filter((test) => this.#durations.get(test).fileName.includes(join('test', layer)));
    const tests = own.length > 0 ? own : testFilter;
    const isFast = (test) => this.#durations.get(test).timeSpentMs <= FAST_MS;
    const run = (some) => this.#run(!disableBail, id, some);
    const first = await run(tests.filter(isFast));
    const failed =
      first.status !== DryRunStatus.Complete || first.tests.some((test) => test.status === TestStatus.Failed);
    if (failed) return toMutantRunResult(first);
    const rest = await run(tests.filter((test) => !isFast(test)));
    return toMutantRunResult({ ...rest, tests: [...first.tests, ...(rest.tests ?? [])] });
  }

  /** @param only titles of tests; all without it */
  async #run(bail, mutant, only) {
    try {
      if (!this.#loaded) await this.#load();
      this.#loaded = true;
      this.#context.activeMutant = mutant;
      bailAll(this.#mocha.suite, bail);
      const tests = only?.length === 0 ? [] : await this.#runTests(only);
      const { hitCount, hitLimit } = this.#context;
      return determineHitLimitReached(hitCount, hitLimit) ?? { status: DryRunStatus.Complete, tests };
    } catch (error) {
      return { status: DryRunStatus.Error, errorMessage: error.stack };
    }
  }

  /** As `loadFilesAsync` does it, but without `require`, which would make scripts of modules. */
  async #load() {
    for (const layer of this.#layers) {
      for (const name of readdirSync(join('test', layer)).sort()) {
        if (!name.endsWith('.test.ts') || OMITTED.includes(name)) continue;
        const file = resolve('test', layer, name);
        this.#mocha.suite.emit('pre-require', globalThis, file, this.#mocha);
        await import(pathToFileURL(file).href);
      }
    }
  }

  #runTests(only) {
    const titles = only?.map((title) => `(?:^${title.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$)`) ?? [];
    this.#mocha.grep(new RegExp(titles.join('|')));
    return new Promise((ended) => {
      const tests = [];
      const add = (test, status, failureMessage) => {
        const title = test.fullTitle();
        const fileName = resolve(test.file ?? '');
        tests.push({ id: title, name: title, fileName, timeSpentMs: test.duration ?? 0, status, failureMessage });
      };
      this.#mocha
        .run(() => ended(tests))
        .on('pass', (test) => add(test, TestStatus.Success))
        .on('pending', (test) => add(test, TestStatus.Skipped))
        .on('fail', (test, error) => add(test, TestStatus.Failed, error.message));
    });
  }
}

/** Mocha calls it as a constructor. */
function silent() {
  // What is reported, Stryker reports.
}

function bailAll(suite, bail) {
  suite.bail(bail);
  for (const inner of suite.suites) bailAll(inner, bail);
}

export const strykerPlugins = [declareClassPlugin(PluginKind.TestRunner, 'mutation', MutationRunner)];

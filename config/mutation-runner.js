// Runs mocha for Stryker. Stryker's own runner knows mocha up to 11.
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { INSTRUMENTER_CONSTANTS } from '@stryker-mutator/api/core';
import { PluginKind, declareClassPlugin } from '@stryker-mutator/api/plugin';
import { DryRunStatus, TestStatus, toMutantRunResult } from '@stryker-mutator/api/test-runner';
import fc from 'fast-check';
import Mocha from 'mocha';
import { isNamedAs, testsNear } from './tests-near.js';

/** A mutant that so much of the tests does not kill counts as survivor: CPU ms of the first run. */
const BUDGET_MS = 2_000;
/** The tests of a mutant run in batches, each this many times as long as all before it, until one fails. */
const BATCH_GROWTH = 4;
const FIRST_BATCH_MS = 20;
/** A loop is endless if a test passes so many times as many mutants, of any kind, as in its first run, and some. */
const ENDLESS_FACTOR = 10;
const ENDLESS_MARGIN = 100_000;
const ENDLESS = 'an endless loop';
/** Tests of a duration are left out: instrumented sources take longer. */
const UNTIMED = /^(?!.*less than \d+ ms)/;
/** What each test took in the first run, and how many mutants it passed; in the sandbox, for new workers. */
const FIRST_RUN = 'first-run.json';

class MutationRunner {
  #mocha = new Mocha({ timeout: 0, reporter: silent });
  #loaded = false;
  /** Id of the mutant that is active. */
  #active;
  /** By the title of the test, with all suites. */
  #firstRun = new Map();
  /** By source file and test: how many mutants of the file the test has killed. */
  #kills = new Map();
  /** What the changed sources read: which mutant is active, and where they count what each test covers. */
  #context = (globalThis[INSTRUMENTER_CONSTANTS.NAMESPACE] ??= {});
  #startedMs = 0;
  /** How many mutants the running test has passed. */
  #passed = 0;
  #mostPassed = Infinity;

  capabilities() {
    // A module stays as it was imported first.
    return { reloadEnvironment: false };
  }

  init() {
    // It is enough that a property fails. Its smallest counterexample would take a while. With one seed, a mutant that
    // was killed is killed again.
    // No property has a time limit: on a busy machine it would fail without a run, and the mutant would count as killed.
    fc.configureGlobal({ endOnFailure: true, seed: 1 });
    this.#mocha.cleanReferencesAfterRun(false);
    // The changed sources ask at every mutant whether it is this one.
    Object.defineProperty(this.#context, 'activeMutant', {
      get: () => {
        this.#passed += 1;
        if (this.#passed > this.#mostPassed) throw new Error(ENDLESS);
        return this.#active;
      },
    });
    const begin = (title) => {
      this.#context.currentTestId = title;
      this.#startedMs = cpuMs();
      this.#passed = 0;
      const first = this.#firstRun.get(title);
      this.#mostPassed = first === undefined ? Infinity : first.passed * ENDLESS_FACTOR + ENDLESS_MARGIN;
    };
    this.#mocha.suite.beforeEach(function () {
      begin(this.currentTest.fullTitle());
    });
  }

  async dryRun({ files }) {
    const testFiles = testsNear(files);
    await this.#load(testFiles);
    const result = await this.#run(false);
    const { mutantCoverage = { static: {}, perTest: {} } } = this.#context;
    const tests = (result.tests ?? []).map(({ id, fileName, timeSpentMs, passed }) => {
      return [id, { fileName, timeSpentMs, passed }];
    });
    writeFileSync(FIRST_RUN, JSON.stringify({ testFiles, tests }));
    return { ...result, mutantCoverage };
  }

  async mutantRun({ activeMutant: { id, fileName }, testFilter = [], disableBail }) {
    if (this.#firstRun.size === 0) {
      const { testFiles, tests } = JSON.parse(readFileSync(FIRST_RUN, 'utf8'));
      this.#firstRun = new Map(tests);
      await this.#load(testFiles);
    }
    const ran = [];
    for (const batch of this.#batches(fileName, testFilter)) {
      const result = await this.#run(!disableBail, id, batch);
      if (result.status !== DryRunStatus.Complete) return toMutantRunResult(result);
      ran.push(...result.tests);
      const killer = result.tests.find(({ status }) => status === TestStatus.Failed)?.id;
      if (killer === undefined) continue;
      this.#kills.set(fileName + killer, (this.#kills.get(fileName + killer) ?? 0) + 1);
      if (!disableBail) break;
    }
    return toMutantRunResult({ status: DryRunStatus.Complete, tests: ran });
  }

  /** Fast tests first; as fast as they count those that killed other mutants of the file, or have its name. */
  #batches(fileName, testFilter) {
    const covering = testFilter.map((title) => ({ title, ...this.#firstRun.get(title) }));
    const order = ({ title, fileName: testFile, timeSpentMs }) =>
      (timeSpentMs + 1) / (1 + (this.#kills.get(fileName + title) ?? 0) + isNamedAs(testFile, fileName));
    const batches = [[]];
    let sumMs = 0;
    let batchEndMs = FIRST_BATCH_MS;
    for (const { title, timeSpentMs } of covering.sort((a, b) => order(a) - order(b))) {
      if (sumMs > 0 && sumMs + timeSpentMs > BUDGET_MS) continue;
      if (sumMs > batchEndMs) {
        batches.push([]);
        batchEndMs *= BATCH_GROWTH;
      }
      sumMs += timeSpentMs;
      batches.at(-1).push(title);
    }
    return batches;
  }

  /** @param only titles of tests; all without it */
  async #run(bail, mutant, only) {
    try {
      this.#active = mutant;
      this.#passed = 0;
      bailAll(this.#mocha.suite, bail);
      const tests = only?.length === 0 ? [] : await this.#runTests(only);
      if (this.#passed > this.#mostPassed) return { status: DryRunStatus.Timeout, reason: ENDLESS };
      return { status: DryRunStatus.Complete, tests };
    } catch (error) {
      return { status: DryRunStatus.Error, errorMessage: error.stack };
    }
  }

  /** As `loadFilesAsync` does it, but without `require`, which would make scripts of modules. */
  async #load(testFiles) {
    if (this.#loaded) return;
    this.#loaded = true;
    for (const file of testFiles) {
      this.#mocha.suite.emit('pre-require', globalThis, file, this.#mocha);
      await import(pathToFileURL(file).href);
    }
  }

  #runTests(only) {
    const titles = only?.map((title) => `^${title.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`);
    this.#mocha.grep(titles === undefined ? UNTIMED : new RegExp(titles.join('|')));
    return new Promise((ended) => {
      const tests = [];
      const add = (test, status, failureMessage) => {
        const title = test.fullTitle();
        const fileName = resolve(test.file ?? '');
        tests.push({
          id: title,
          name: title,
          fileName,
          timeSpentMs: cpuMs() - this.#startedMs,
          passed: this.#passed,
          status,
          failureMessage,
        });
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

/** CPU time of this process, which other processes do not prolong. */
function cpuMs() {
  return process.cpuUsage().user / 1000;
}

function bailAll(suite, bail) {
  suite.bail(bail);
  for (const inner of suite.suites) bailAll(inner, bail);
}

export const strykerPlugins = [declareClassPlugin(PluginKind.TestRunner, 'mutation', MutationRunner)];

/**
 * Mutation tests of the code that decides without a network: `npm run mutation`, or of some files
 * `npm run mutation -- --mutate "src/core/**"`. A second run tests only what has changed since.
 */
export default {
  mutate: [
    'src/core/**/*.ts',
    // Measured figures, held by a test of the heap.
    '!src/core/heap-bytes.ts',
    'src/cluster/state/*.ts',
    'src/cluster/routing/route.ts',
    'src/cluster/replication/placement.ts',
    'src/cluster/leases/hot-clients.ts',
    'src/cluster/policies/registry-merge.ts',
    'src/cluster/decide/turn-budget.ts',
  ],
  testRunner: 'mutation',
  plugins: ['./config/mutation-runner.js'],
  testRunnerNodeArgs: ['--import', 'tsx'],
  coverageAnalysis: 'perTest',
  // A constant of a module is read when the module is loaded: each of its mutants would take a run of all tests.
  ignoreStatic: true,
  concurrency: 1,
  // A busy machine is no endless loop. Those are found by the number of times that a mutant is passed.
  timeoutMS: 300_000,
  ignorePatterns: ['/docs', '/docker', '/dist', '/coverage', '/.ci', '/.tokenring'],
  tempDirName: 'coverage/stryker',
  incremental: true,
  incrementalFile: 'coverage/mutation/incremental.json',
  reporters: ['clear-text', 'progress', 'html', 'json'],
  clearTextReporter: { reportTests: false, allowColor: false },
  htmlReporter: { fileName: 'coverage/mutation/index.html' },
  jsonReporter: { fileName: 'coverage/mutation/mutation.json' },
  thresholds: { high: 95, low: 90, break: 90 },
};

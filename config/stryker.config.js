/**
 * Mutation tests of the code that decides without a network: `npm run mutation`, or of some files
 * `npm run mutation -- --mutate "src/limits/**"`. A second run tests only what has changed since.
 */
export default {
  mutate: [
    'src/{limits,policy}/**/*.ts',
    '!src/policy/active-policies.ts',
    'src/lib/{address,error,mistake,space-saving,trace-context,turns}.ts',
    // Measured figures, held by a test of the heap.
    '!src/limits/heap-bytes.ts',
    'src/state/*.ts',
    'src/membership/route.ts',
    'src/replication/placement.ts',
    'src/node/leases/hot-clients.ts',
    'src/node/policies/registry-merge.ts',
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

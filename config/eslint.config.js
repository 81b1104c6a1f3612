import { dirname } from 'node:path';
import tseslint from 'typescript-eslint';

const GETTER = {
  selector: "ObjectExpression > Property[kind='get']",
  message: 'V8 keeps an object literal with a getter as a dictionary, so nothing of it is inlined. Use a method.',
};
const SPREAD_FIRST = {
  selector: 'ObjectExpression:has(> Property) > SpreadElement:first-child',
  message:
    'V8, in Node 20, makes a hidden class for each object of a literal that begins with a spread and adds a field, which takes microseconds. Begin with a field, or list the fields.',
};

export default tseslint.config(
  { ignores: ['**/dist/', 'coverage/'] },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['config/*.js', 'src/pages/*/*.js'] },
        tsconfigRootDir: dirname(import.meta.dirname),
      },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      'no-duplicate-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // The code has just bounded the index. A branch for `undefined` is one that no test can reach.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // `return fail(problem)` is an early exit, and readers see it as such.
      '@typescript-eslint/no-confusing-void-expression': 'off',
      eqeqeq: 'error',
    },
  },
  { files: ['src/**'], rules: { 'no-restricted-syntax': ['error', GETTER] } },
  // Code that runs for each decision, or for each client that is copied.
  {
    files: [
      'limits/{bucket,decide}',
      'node/{decide,leases}',
      'state',
      'protocol/format',
      'client',
      'server/http/decisions',
    ].map((folder) => `src/${folder}/**`),
    rules: { 'no-restricted-syntax': ['error', GETTER, SPREAD_FIRST] },
  },
  {
    files: ['test/**'],
    rules: {
      // chai's assertions are expressions, and mocha's describe and it return nothing worth waiting for.
      '@typescript-eslint/no-unused-expressions': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: [{ from: 'package', name: ['describe', 'it'], package: 'mocha' }] },
      ],
    },
  },
  { files: ['**/*.js'], extends: [tseslint.configs.disableTypeChecked] },
);

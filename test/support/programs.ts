import { spawnSync } from 'node:child_process';
import type { Suite } from 'mocha';

/**
 * Declares tests that need a program. Where the machine lacks it, they are pending and say why; with `CI=true` they
 * fail.
 * @param command a command line that succeeds where the program is there
 * @param hint how to get it
 */
export function describeWith(
  title: string,
  command: readonly string[],
  hint: string,
  tests: (this: Suite) => void,
): void {
  const [program, ...args] = command;
  describe(title, function () {
    if (spawnSync(program!, args, { stdio: 'ignore', timeout: 20_000 }).status === 0) return tests.call(this);
    const missing = `${program} is missing: ${hint}`;
    it(`(${missing})`, function () {
      if (process.env['CI'] === 'true') throw new Error(missing);
      this.skip();
    });
  });
}

import { spawnSync } from 'node:child_process';

/**
 * Declares tests that need a program. Where the machine lacks it, they are pending and say why; with `CI=true` they
 * fail.
 * @param command a command line that succeeds where the program is there
 * @param hint how to get it
 */
export function describeWith(title: string, command: readonly string[], hint: string, tests: () => void): void {
  const [program, ...args] = command;
  describe(title, () => {
    if (spawnSync(program!, args, { stdio: 'ignore', timeout: 20_000 }).status === 0) return tests();
    const missing = `${program} is missing: ${hint}`;
    it(`(${missing})`, function () {
      if (process.env['CI'] === 'true') throw new Error(missing);
      this.skip();
    });
  });
}

import { parseArgs } from 'node:util';
import { parseJson } from '../validate/json.js';
import { SettingsError } from '../settings.js';
import { readPolicyFile } from '../store/policy-file.js';

/** `tokenring policies check FILE`: every mistake in it, by field. @returns the exit code: 0 none, 1 some, 2 not readable */
export async function checkPolicies(args: readonly string[]): Promise<0 | 1 | 2> {
  const path = readPath(args);
  const file = await readPolicyFile(path, parseJson);
  switch (file.kind) {
    case 'unreadable':
      process.stderr.write(`tokenring: ${path} cannot be read: ${file.reason}\n`);
      return 2;
    case 'invalid':
      for (const { detail } of file.mistakes) process.stderr.write(`${path}: ${detail}\n`);
      return 1;
    case 'read': {
      const policies = [...file.entries.keys()].filter((key) => key.startsWith('policy ')).length;
      process.stdout.write(`${path}: ${policies} ${policies === 1 ? 'policy' : 'policies'}, no mistakes\n`);
      return 0;
    }
  }
}

function readPath(args: readonly string[]): string {
  try {
    const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true, strict: true });
    const [command, path, ...rest] = positionals;
    if (command !== 'check' || path === undefined || rest.length > 0) throw new Error('expected check FILE');
    return path;
  } catch (cause) {
    throw new SettingsError(`policies: ${(cause as Error).message}`, { cause });
  }
}

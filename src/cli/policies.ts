import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { SettingsError } from '../app/settings/settings.js';
import { readPolicyFile } from '../store/policy-file.js';
import { parseJson } from '../server/validate/json.js';
import { print } from './print.js';
import { ask, FAILED, printable, show, showProblem, type Input, type Run } from './remote.js';

type Policies = Readonly<Record<string, unknown>>;

export const policies: Run = (input) => {
  const [action, ...args] = input.positionals;
  const [first, second] = args;
  if (input.switches.has('force') && action !== 'delete')
    throw new SettingsError('policies: --force is for delete alone');
  if (action === 'get' && args.length <= 1) return get(input, first);
  if (action === 'put' && first !== undefined && second !== undefined) return put(input, first, second);
  if (action === 'delete' && first !== undefined && args.length === 1) return remove(input, first);
  if (action === 'diff' && first !== undefined && args.length === 1) return diff(input, first);
  if (action === 'check' && first !== undefined && args.length === 1) return check(first);
  throw new SettingsError(`policies: expected ${input.usage}`);
};

const pathOf = (name: string): string => `/v1/policies/${encodeURIComponent(name)}`;
const pretty = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;

async function get(input: Input, name: string | undefined): Promise<number> {
  return show(await ask(input, name === undefined ? '/v1/policies' : pathOf(name)), input, pretty);
}

async function put(input: Input, name: string, path: string): Promise<number> {
  let body: unknown;
  try {
    body = parseJson(readFileSync(path));
  } catch (cause) {
    throw new SettingsError(`policies: ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const answer = await ask(input, pathOf(name), { method: 'PUT', body });
  return show(answer, input, (body) => {
    const { version, warnings = [] } = body as { version: number; warnings?: readonly string[] };
    for (const warning of warnings) process.stderr.write(`tokenring: ${printable(warning)}\n`);
    return `${name}: version ${version}\n`;
  });
}

async function remove(input: Input, name: string): Promise<number> {
  const path = `${pathOf(name)}${input.switches.has('force') ? '?force=true' : ''}`;
  const answer = await ask(input, path, { method: 'DELETE' });
  const code = show(answer, input, (body) => `${name} is deleted: version ${(body as { version: number }).version}\n`);
  const { code: problem } = Object(answer?.body) as { code?: unknown };
  if (problem === 'policy_in_use') process.stderr.write('tokenring: to delete it nevertheless, add --force\n');
  return code;
}

/** Compares the policies of a file with those in force. @returns 0 for no difference, 1 for some */
async function diff(input: Input, path: string): Promise<number> {
  const file = await readPolicyFile(path, parseJson);
  if (file.kind !== 'read') return check(path);
  const wanted: Record<string, unknown> = {};
  for (const [key, value] of file.entries) if (key.startsWith('policy ')) wanted[key.slice('policy '.length)] = value;
  const answer = await ask(input, '/v1/policies');
  if (answer === undefined) return FAILED;
  if (answer.status !== 200) return showProblem(answer, input);
  const { policies: inForce } = answer.body as { policies: Policies };
  const differences = differencesOf(inForce, wanted);
  const text = differences.map((one) => `${lineOf(one)}\n`).join('');
  print(input.switches.has('json') ? pretty(differences) : printable(text));
  return differences.length === 0 ? 0 : 1;
}

type Difference =
  /** An `added` policy is only in the file; a `missing` one is only in force. */
  | { readonly kind: 'added' | 'missing'; readonly name: string }
  /** The fields that differ, by where they are. */
  | {
      readonly kind: 'changed';
      readonly name: string;
      readonly onlyInFile: readonly string[];
      readonly onlyInForce: readonly string[];
      readonly different: readonly string[];
    };

function differencesOf(inForce: Policies, wanted: Policies): Difference[] {
  const names = [...new Set([...Object.keys(inForce), ...Object.keys(wanted)])].sort();
  return names.flatMap((name): Difference[] => {
    if (!Object.hasOwn(inForce, name)) return [{ kind: 'added', name }];
    if (!Object.hasOwn(wanted, name)) return [{ kind: 'missing', name }];
    const [now, then] = [inForce[name] as Policies, wanted[name] as Policies];
    if (isDeepStrictEqual(now, then)) return [];
    const differ = (field: string): boolean =>
      Object.hasOwn(then, field) && !isDeepStrictEqual(now[field], then[field]);
    return [
      {
        kind: 'changed',
        name,
        onlyInFile: Object.keys(then).filter((field) => !Object.hasOwn(now, field)),
        onlyInForce: Object.keys(now).filter((field) => !Object.hasOwn(then, field)),
        different: Object.keys(now).filter(differ),
      },
    ];
  });
}

function lineOf(one: Difference): string {
  switch (one.kind) {
    case 'added':
      return `+ ${one.name}: only in the file`;
    case 'missing':
      return `- ${one.name}: only in force`;
    case 'changed': {
      const parts = [
        ...one.different.map((field) => `${field} differs`),
        ...one.onlyInFile.map((field) => `${field} is only in the file`),
        ...one.onlyInForce.map((field) => `${field} is only in force`),
      ];
      return `~ ${one.name}: ${parts.join(', ')}`;
    }
  }
}

/** Names every mistake in a file, by field. @returns 0 for none, 1 for some, 2 if the file is not readable */
async function check(path: string): Promise<0 | 1 | 2> {
  const file = await readPolicyFile(path, parseJson);
  switch (file.kind) {
    case 'unreadable':
      process.stderr.write(`tokenring: ${path} cannot be read: ${file.reason}\n`);
      return 2;
    case 'invalid':
      for (const { detail } of file.mistakes) process.stderr.write(`${path}: ${detail}\n`);
      return 1;
    case 'read': {
      for (const warning of file.warnings) process.stderr.write(`${path}: ${warning}\n`);
      const count = [...file.entries.keys()].filter((key) => key.startsWith('policy ')).length;
      print(`${path}: ${count} ${count === 1 ? 'policy' : 'policies'}, no mistakes\n`);
      return 0;
    }
  }
}

import { parseArgs } from 'node:util';
import { nearestName } from '../lib/mistake.js';
import { SettingsError } from '../app/settings/settings.js';

type Environment = Readonly<Record<string, string | undefined>>;

interface Option {
  /** The placeholder of its value, such as `N`. A switch has none. */
  readonly value?: string;
  readonly meaning: string;
}

export interface Command {
  /** The command line after `tokenring`, such as `allow CLIENT`. */
  readonly usage: string;
  readonly summary: string;
  readonly options: Readonly<Record<string, Option>>;
  /** The smallest and largest number of positional arguments. */
  readonly positionals: readonly [min: number, max: number];
  readonly examples: readonly string[];
  readonly exits: Readonly<Record<number, string>>;
  /** @returns the exit code */
  run(input: Input): Promise<number> | number;
}

/** The parsed command line. */
export interface Input {
  readonly positionals: readonly string[];
  readonly values: Readonly<Record<string, string | undefined>>;
  /** The switches that were given. */
  readonly switches: ReadonlySet<string>;
  readonly env: Environment;
}

/** Rejects a wrong command line. The error names the command. */
function refuse(name: string, message: string, cause?: unknown): never {
  throw new SettingsError(`${name}: ${message}; see tokenring ${name} --help`, { cause });
}

/**
 * Runs a command. Prints its help instead when `-h` or `--help` is the only argument.
 * `tokenring allow --limit 5 --window 1m "$CLIENT"` must not exit with 0, which means allowed, when the client is named
 * --help.
 * @returns the exit code
 * @throws SettingsError in one line, for a command line that is wrong
 */
export async function runCommand(
  name: string,
  command: Command,
  args: readonly string[],
  env: Environment,
): Promise<number> {
  if (wantsHelp(args)) {
    process.stdout.write(helpOf(command));
    return 0;
  }
  const { values, positionals } = parse(name, command, args);
  const [min, max] = command.positionals;
  if (positionals.length < min || positionals.length > max) refuse(name, `expected ${command.usage}`);
  const texts = Object.fromEntries(Object.entries(values).filter(([, value]) => typeof value === 'string'));
  const switches = new Set(Object.keys(values).filter((name) => values[name] === true));
  return command.run({ positionals, values: texts as Record<string, string>, switches, env });
}

export function wantsHelp(args: readonly string[]): boolean {
  return args.length === 1 && (args[0] === '--help' || args[0] === '-h');
}

function parse(
  name: string,
  command: Command,
  args: readonly string[],
): { values: Record<string, unknown>; positionals: string[] } {
  const names = Object.keys(command.options);
  const options = Object.fromEntries(
    Object.entries(command.options).map(([one, { value }]) => [
      one,
      { type: value === undefined ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  for (const token of tokens) {
    if (token.kind !== 'option' || names.includes(token.name)) continue;
    const nearest = nearestName(token.name, names);
    refuse(name, `unknown option ${token.rawName}${nearest === undefined ? '' : `; did you mean --${nearest}?`}`);
  }
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: true });
  } catch (cause) {
    return refuse(name, (cause as Error).message.split('\n')[0]!.replace(/\.$/, ''), cause);
  }
}

function helpOf({ usage, summary, options, examples, exits }: Command): string {
  const flags = Object.entries(options).map(([name, { value, meaning }]) => [
    `--${name}${value === undefined ? '' : ` ${value}`}`,
    meaning,
  ]);
  const width = Math.max(0, ...flags.map(([flag]) => flag!.length));
  const lines = [
    `tokenring ${usage}`,
    '',
    `  ${summary}`,
    '',
    ...(flags.length === 0
      ? []
      : ['Options:', ...flags.map(([flag, meaning]) => `  ${flag!.padEnd(width)}  ${meaning}`), '']),
    'Exit codes:',
    ...Object.entries(exits).map(([code, meaning]) => `  ${code}  ${meaning}`),
    '',
    'Examples:',
    ...examples.map((example) => `  ${example}`),
  ];
  return `${lines.join('\n')}\n`;
}

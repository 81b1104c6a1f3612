import { Command, InvalidArgumentError, Option, type CommanderError } from 'commander';
import { flag, SETTINGS, variable, type Name } from '../app/settings/setting-table.js';
import { SettingsError } from '../app/settings/settings.js';
import { VERSION } from '../lib/version.js';
import { print } from './print.js';
import { DEFAULT_URL, type Run } from './remote.js';

/** Options with their meanings, as commander reads them. */
type Options = Readonly<Record<string, string>>;

const JSON_OPTION: Options = { '--json': 'print the answer as JSON' };
/** The options of each command that asks a node. */
const REMOTE: Options = {
  '--url <URL>': `the node to ask (default: TOKENRING_URL, else ${DEFAULT_URL}); http:// may be left out`,
  ...JSON_OPTION,
};
const DONE = { 0: 'done', 2: 'error' } as const;

/**
 * Declares the command line.
 * @param args what follows the name of a command that runs nodes; those commands read their flags by themselves
 */
export function createProgram(args: readonly string[]): Command {
  const program = new Command('tokenring')
    .description('a distributed rate limiter')
    .version(VERSION, '-v, --version')
    // Otherwise `allow "$CLIENT"` would exit with 0, which means allowed, for a client named --version.
    .enablePositionalOptions()
    .configureOutput({ writeOut: print, writeErr: () => undefined })
    .exitOverride()
    .addHelpText(
      'after',
      '\ntokenring COMMAND --help shows options and examples.\n' +
        'Commands that ask a node send the token in TOKENRING_TOKEN, if it is set. They ask the node at TOKENRING_URL,\n' +
        'unless --url names another.',
    );
  declareNodeCommands(program, args);
  declareClientCommands(program);
  declareOtherCommands(program);
  return program;
}

/** The commands that run nodes. Their flags are the settings, and they run until a signal. */
function declareNodeCommands(program: Command, args: readonly string[]): void {
  const declareNodes = (name: string, usage: string, summary: string, examples: readonly string[]): Command =>
    program
      .command(name)
      .usage(usage)
      .description(summary)
      .helpOption(false)
      .allowUnknownOption()
      .allowExcessArguments()
      .addHelpText('after', () => {
        const exits = {
          0: 'stopped by a signal',
          1: 'stopped by a second signal, or the stop failed',
          2: 'cannot start',
        };
        return `${moreHelp(exits, examples)}\n\n${settingsHelp()}`;
      });
  declareNodes('serve', '[--SETTING VALUE …]', 'Runs one node in the foreground, until SIGTERM or Ctrl-C.', [
    'tokenring serve --port 8081 --peer-port 9081 --peers 127.0.0.1:9080',
  ]).action(async () => (await import('./run/serve.js')).serve(args, process.env));
  declareNodes(
    'cluster',
    '[--nodes 3] [--SETTING VALUE …]',
    'Runs several nodes on this machine, on ports that follow --port, until Ctrl-C.',
    ['tokenring cluster', 'tokenring cluster --nodes 5 --port 18080 --log json'],
  ).action(async () => (await import('./run/cluster.js')).runCluster(args, process.env));
}

/** Commands about one client. */
function declareClientCommands(program: Command): void {
  declare(program, 'allow <CLIENT>', {
    usage: 'allow CLIENT (--limit N --window 1m | --policy NAME)',
    summary: 'Asks whether a client may make a request now, which is then counted. Prints the decision as JSON.',
    options: {
      '--limit <N>': 'requests per window',
      '--window <TIME>': 'milliseconds, or 250ms, 10s, 1m, 1h, 1d',
      '--burst <N>': 'capacity of the bucket, where it differs from the limit',
      '--algorithm <NAME>': 'token-bucket (default) or sliding-window',
      '--policy <NAME>': 'a named policy instead of a limit',
      '--scope <NAME>': 'another set of buckets of the same client',
      '--cost <N>': 'tokens that the request takes (default 1)',
      ...REMOTE,
    },
    exits: { 0: 'allowed', 1: 'denied', 2: 'error' },
    examples: [
      'tokenring allow alice --limit 10 --window 1m',
      'tokenring allow alice --policy api --url localhost:8081',
    ],
    load: async () => (await import('./commands.js')).allow,
  });
  declare(program, 'describe <CLIENT>', {
    summary: 'Shows the buckets of a client, and consumes nothing.',
    examples: ['tokenring describe alice', 'tokenring describe alice --json'],
    load: async () => (await import('./commands.js')).describe,
  });
  declare(program, 'owner <CLIENT>', {
    summary: 'Shows which node decides for a client, and which nodes follow.',
    examples: ['tokenring owner alice'],
    load: async () => (await import('./commands.js')).owner,
  });
  declare(program, 'reset <CLIENT>', {
    summary: 'Forgets the consumption of a client on all nodes. Needs the role admin.',
    examples: ['TOKENRING_TOKEN=… tokenring reset alice'],
    load: async () => (await import('./commands.js')).reset,
  });
  declare(program, 'settle <RESERVATION> <COST>', {
    summary: 'Replaces a reserved cost by the real one. Repeating it counts once.',
    examples: ['tokenring settle 5f1c… 3'],
    load: async () => (await import('./commands.js')).settle,
  });
}

function declareOtherCommands(program: Command): void {
  declare(program, 'bench', {
    summary: 'Asks for decisions as fast as the connections allow, and shows rate and latency.',
    options: {
      ...REMOTE,
      '--seconds <N>': 'how long (default 10)',
      '--connections <N>': 'requests in flight, each on its connection (default 16)',
      '--clients <N>': 'client ids, asked in turn (default 1000)',
    },
    exits: { 0: 'all requests were decided', 1: 'some failed', 2: 'error' },
    examples: ['tokenring bench', 'tokenring bench --url localhost:8081 --seconds 30 --connections 64 --json'],
    load: async () => (await import('./bench.js')).bench,
  });
  declare(program, 'completions <SHELL>', {
    summary: 'Prints a script that completes commands and options in bash, zsh, or fish.',
    options: {},
    examples: ['source <(tokenring completions bash)', 'tokenring completions fish | source'],
    load: async () => (await import('./completions.js')).completionsOf(program),
  });
  declare(program, 'policies [WORDS...]', {
    usage: 'policies get [NAME] | put NAME FILE | delete NAME [--force] | diff FILE | check FILE',
    summary: 'Shows, writes, deletes, compares, and checks named policies. put and delete need the role admin.',
    options: { ...REMOTE, '--force': 'delete a policy that was asked for in the last hour' },
    exits: { 0: 'done; no difference; no mistake', 1: 'diff: some difference; check: some mistake', 2: 'error' },
    examples: [
      'tokenring policies get api',
      'TOKENRING_TOKEN=… tokenring policies put api api.json',
      'TOKENRING_TOKEN=… tokenring policies delete api',
      'tokenring policies diff config/policies.json',
      'tokenring policies check config/policies.json',
    ],
    load: async () => (await import('./policies.js')).policies,
  });
  declare(program, 'status', {
    summary: 'Lists the members of the ring, as one node sees them.',
    exits: { 0: 'the node answered', 2: 'error' },
    examples: ['tokenring status', 'tokenring status --url localhost:8081 --json'],
    load: async () => (await import('./commands.js')).status,
  });
  declare(program, 'token [NAME] [ROLE...]', {
    summary:
      'Makes a bearer token, and its entry for the file of TOKENRING_TOKENS. The entry does not reveal the token.',
    options: { '--json': 'print both as JSON' },
    examples: ['tokenring token deploy admin', 'tokenring token shop decide read'],
    load: async () => (await import('./commands.js')).token,
  });
  declare(program, 'top', {
    summary: 'Shows live what all members decide, and the clients that are denied, ask, or consume most.',
    options: {
      ...REMOTE,
      '--once': 'print one view, after measuring for a second, and end',
      '--span <SPAN>': 'minute (default) or hour: how fast the counts of clients decay',
      '--policy <NAME>': 'only clients under this policy',
    },
    exits: { 0: 'ended by q or Ctrl-C, or printed once', 2: 'error' },
    examples: ['tokenring top', 'tokenring top --url localhost:8081 --span hour', 'tokenring top --once --json'],
    load: async () => (await import('./top.js')).top,
  });
}

/**
 * Declares a command.
 * @param name the name with its arguments, as commander reads them
 */
function declare(
  program: Command,
  name: string,
  {
    usage = name.replaceAll(/[<>]/g, ''),
    summary,
    options = REMOTE,
    exits = DONE,
    examples,
    load,
  }: {
    /** The command line after `tokenring`, for errors. Default: the name with its arguments. */
    readonly usage?: string;
    readonly summary: string;
    /** Default: those of each command that asks a node. */
    readonly options?: Options;
    readonly exits?: Readonly<Record<number, string>>;
    readonly examples: readonly string[];
    /** Loads the command when it is used, so that a command that asks a node does not load a server. */
    readonly load: () => Promise<Run>;
  },
): void {
  const command = program
    .command(name)
    .description(summary)
    .usage(usage.split(' ').slice(1).join(' '))
    // `tokenring allow --limit 5 --window 1m "$CLIENT"` must not exit with 0 when the client is named --help.
    .helpOption(false)
    .addHelpText('after', moreHelp(exits, examples))
    .exitOverride((error) => {
      throw refused(command.name(), usage, error);
    });
  for (const [flags, meaning] of Object.entries(options)) {
    const option = new Option(flags, meaning);
    // Otherwise `--limit --json` takes the second option for the value of the first.
    if (option.required) option.argParser(notAnOption);
    command.addOption(option);
  }
  command.action(async () => {
    const given = Object.entries(command.opts<Record<string, string | true>>());
    const values = Object.fromEntries(given.filter(([, value]) => value !== true)) as Record<string, string>;
    const switches = new Set(given.flatMap(([option, value]) => (value === true ? [option] : [])));
    process.exitCode = await (await load())({ positionals: command.args, values, switches, usage, env: process.env });
  });
}

function notAnOption(value: string): string {
  if (value.startsWith('-')) throw new InvalidArgumentError('a value cannot begin with -.');
  return value;
}

/** Explains a wrong command line in one sentence that names the command. */
function refused(name: string, usage: string, error: CommanderError): SettingsError {
  const isAboutArguments = error.code === 'commander.missingArgument' || error.code === 'commander.excessArguments';
  const what = isAboutArguments ? `expected ${usage}` : sentenceOf(error).replaceAll("'", '');
  return new SettingsError(`${name}: ${what}; see tokenring ${name} --help`, { cause: error });
}

/** Puts an error of commander, such as `error: unknown option '--jsno'\n(Did you mean --json?)`, on one line. */
function sentenceOf({ message }: CommanderError): string {
  return message.replace(/^error: /, '').replace(/\s*\(Did (you mean [^)]*)\)$/, '; did $1');
}

/** Explains that there is no such command. */
export function unknownCommand(name: string, error: CommanderError): SettingsError {
  const hint = /; did you mean .*$/.exec(sentenceOf(error))?.[0] ?? '; see tokenring --help';
  return new SettingsError(`unknown command ${JSON.stringify(name)}${hint}`, { cause: error });
}

function moreHelp(exits: Readonly<Record<number, string>>, examples: readonly string[]): string {
  const codes = Object.entries(exits).map(([code, meaning]) => `  ${code}  ${meaning}`);
  const lines = ['', 'Exit codes:', ...codes, '', 'Examples:', ...examples.map((example) => `  ${example}`)];
  return lines.join('\n');
}

/** Describes every setting by its names. */
function settingsHelp(): string {
  const lines = (Object.keys(SETTINGS) as Name[]).map((name) => {
    const { meaning, expected, default: fallback } = SETTINGS[name];
    const usual = String(fallback ?? '') || 'none';
    return `  ${flag(name)}, ${variable(name)}: ${meaning}\n      ${expected}; default ${usual}\n`;
  });
  return (
    'Settings, from flags, then the environment, then the file, then defaults:\n\n' +
    `  --config, TOKENRING_CONFIG: the path of a JSON file of settings, as { "peerPort": 9081 }\n${lines.join('')}`
  );
}

import { SettingsError } from '../app/settings/settings.js';
import { flag, SETTINGS } from '../app/settings/setting-table.js';
import type { Command } from './command.js';

type Words = ReadonlyMap<string, readonly string[]>;

/** Scripts by shell. Each completes the name of a command, then its options. */
const SHELLS: Readonly<Record<string, (words: Words) => string>> = {
  bash: (words) =>
    `_tokenring() {\n  local words\n  case "$COMP_CWORD:\${COMP_WORDS[1]}" in\n    1:*) words="${[...words.keys()].join(' ')}" ;;\n` +
    [...words].map(([name, flags]) => `    *:${name}) words="${flags.join(' ')}" ;;\n`).join('') +
    `  esac\n  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))\n}\ncomplete -o default -F _tokenring tokenring\n`,
  zsh: (words) =>
    `#compdef tokenring\n_tokenring() {\n  if (( CURRENT == 2 )); then compadd -- ${[...words.keys()].join(' ')}; return; fi\n  case "$words[2]" in\n` +
    [...words].map(([name, flags]) => `    ${name}) compadd -- ${flags.join(' ')} ;;\n`).join('') +
    `  esac\n  _files\n}\ncompdef _tokenring tokenring\n`,
  fish: (words) =>
    `complete -c tokenring -n __fish_use_subcommand -a "${[...words.keys()].join(' ')}"\n` +
    [...words]
      .flatMap(([name, flags]) =>
        flags.map((one) => `complete -c tokenring -n "__fish_seen_subcommand_from ${name}" -l ${one.slice(2)}\n`),
      )
      .join(''),
};

/** The command that completes these commands. */
export const completionsOf = (
  commands: Readonly<Record<string, () => Promise<Command>>>,
  nodeCommands: readonly string[],
): Command => ({
  usage: 'completions bash|zsh|fish',
  summary: 'Prints a script that completes commands and options in a shell.',
  positionals: [1, 1],
  options: {},
  exits: { 0: 'done', 2: 'error' },
  examples: ['source <(tokenring completions bash)', 'tokenring completions fish | source'],
  async run({ positionals: [shell] }) {
    const script = Object.hasOwn(SHELLS, shell!) ? SHELLS[shell!] : undefined;
    if (script === undefined) throw new SettingsError(`completions: expected ${Object.keys(SHELLS).join(', ')}`);
    const settings = ['--config', ...Object.keys(SETTINGS).map(flag), '--help'];
    const words = new Map<string, readonly string[]>(nodeCommands.map((name) => [name, settings]));
    for (const [name, load] of Object.entries(commands)) {
      const { options } = await load();
      words.set(name, [...Object.keys(options).map((one) => `--${one}`), '--help']);
    }
    process.stdout.write(script(words));
    return 0;
  },
});

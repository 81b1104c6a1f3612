import type { Command } from 'commander';
import { SettingsError } from '../app/settings/settings.js';
import { flag, SETTINGS } from '../app/settings/setting-table.js';
import { print } from './print.js';
import type { Run } from './remote.js';

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

/** The command that completes the commands of a program. commander has no completions. */
export const completionsOf =
  (program: Command): Run =>
  ({ positionals: [shell] }) => {
    const script = Object.hasOwn(SHELLS, shell!) ? SHELLS[shell!] : undefined;
    if (script === undefined) throw new SettingsError(`completions: expected ${Object.keys(SHELLS).join(', ')}`);
    const settings = ['--config', ...Object.keys(SETTINGS).map(flag)];
    const flagsOf = (command: Command): readonly string[] =>
      ['serve', 'cluster'].includes(command.name()) ? settings : command.options.map(({ long }) => long!);
    print(script(new Map(program.commands.map((one) => [one.name(), [...flagsOf(one), '--help']]))));
    return 0;
  };

import { flag, SETTINGS, variable } from '../setting-table.js';
import type { Name } from '../setting-table.js';

const COMMANDS = `tokenring: a distributed rate limiter

  tokenring serve [--SETTING VALUE …]                   one node in the foreground
  tokenring cluster [--nodes 3] [--SETTING VALUE …]     several nodes on this machine
  tokenring allow CLIENT --limit 10 --window 1m [--burst 20] [--algorithm sliding-window] [--cost 1]
                  [--url http://127.0.0.1:8080]         ask: exit 0 allowed, 1 denied, 2 error
  tokenring status [--url http://127.0.0.1:8080]        the members, as a node sees them
  tokenring policies check FILE                         every mistake in a file of policies: exit 0 none, 1 some
  tokenring token NAME ROLE…                            a new bearer token, and its entry for the file of tokens

allow and status show the token in TOKENRING_TOKEN, if there is one.
`;

/** What the commands take, and every setting by its names. */
export function usage(): string {
  const names = Object.keys(SETTINGS) as Name[];
  const config = '  --config, TOKENRING_CONFIG: the path of a JSON file of settings, as { "peerPort": 9081 }\n';
  return `${COMMANDS}\nSettings, from flags, then the environment, then the file, then defaults:\n\n${config}${names.map(describe).join('')}`;
}

function describe(name: Name): string {
  const { meaning, expected, default: fallback } = SETTINGS[name];
  const usual = String(fallback ?? '') || 'none';
  return `  ${flag(name)}, ${variable(name)}: ${meaning}\n      ${expected}; default ${usual}\n`;
}

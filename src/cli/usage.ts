import { flag, SETTINGS, variable } from '../app/settings/setting-table.js';
import type { Name } from '../app/settings/setting-table.js';
import { COMMANDS, NODE_COMMANDS } from './commands.js';

const NODES = {
  serve: {
    usage: 'serve [--SETTING VALUE …]',
    summary: 'Runs one node in the foreground, until SIGTERM or Ctrl-C.',
    examples: ['tokenring serve --port 8081 --peer-port 9081 --peers 127.0.0.1:9080'],
  },
  cluster: {
    usage: 'cluster [--nodes 3] [--SETTING VALUE …]',
    summary: 'Runs several nodes on this machine, on ports that follow --port, until Ctrl-C.',
    examples: ['tokenring cluster', 'tokenring cluster --nodes 5 --port 18080 --log json'],
  },
} as const;

/** Lists the commands, one on each line. */
export async function overview(): Promise<string> {
  const lines = NODE_COMMANDS.map((name): [string, string] => [NODES[name].usage, NODES[name].summary]);
  for (const load of Object.values(COMMANDS)) {
    const { usage, summary } = await load();
    lines.push([usage, summary]);
  }
  const list = lines.map(([usage, summary]) => `  ${usage}\n      ${summary}\n`).join('');
  return (
    `tokenring: a distributed rate limiter\n\n${list}\ntokenring COMMAND --help shows options and examples; tokenring --version the version.\n` +
    'Commands that ask a node send the token in TOKENRING_TOKEN, if it is set. They ask the node at TOKENRING_URL, unless\n' +
    '--url names another.\n'
  );
}

/** Describes a command that runs nodes, and every setting by its names. */
export function nodeUsage(command: keyof typeof NODES): string {
  const { usage, summary, examples } = NODES[command];
  const names = Object.keys(SETTINGS) as Name[];
  const config = '  --config, TOKENRING_CONFIG: the path of a JSON file of settings, as { "peerPort": 9081 }\n';
  return (
    `tokenring ${usage}\n\n  ${summary}\n\nExit codes:\n  0  stopped by a signal\n  1  stopped by a second signal, or the stop failed\n` +
    `  2  cannot start\n\nExamples:\n${examples.map((one) => `  ${one}\n`).join('')}\n` +
    `Settings, from flags, then the environment, then the file, then defaults:\n\n${config}${names.map(describe).join('')}`
  );
}

function describe(name: Name): string {
  const { meaning, expected, default: fallback } = SETTINGS[name];
  const usual = String(fallback ?? '') || 'none';
  return `  ${flag(name)}, ${variable(name)}: ${meaning}\n      ${expected}; default ${usual}\n`;
}
